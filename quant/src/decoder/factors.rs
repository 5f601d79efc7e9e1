//! Bodies of low-rank frames.

use std::ops::Range;

use super::{Decoder, exactly, field};
use crate::error::DecodeError;
use crate::frame::{HEADER_BYTES, SETTINGS_BYTES, Settings};
use crate::layout::Part;
use crate::lowrank::{Factors, Shape, accumulate};

impl Decoder {
    pub(super) fn multiply(
        &mut self,
        rank: usize,
        body: &[u8],
        range: Range<usize>,
        weight: f32,
        target: &mut [f32],
    ) -> Result<(), DecodeError> {
        let mut rest = body;
        let settings = Settings::read(&mut rest)?;
        self.check_settings(settings)?;
        field("lossless code", settings.coding.into(), 0)?;
        let Self {
            layout,
            simd,
            scratch,
            ..
        } = self;
        let shape = |part: &Part| Shape::plan(part.range.len(), part.columns, rank);
        let numbers = |part: &Part| shape(part).map_or(part.range.len(), Shape::numbers);
        let expected: usize = layout.parts(range.clone()).map(|part| numbers(&part)).sum();
        exactly(
            HEADER_BYTES + body.len(),
            HEADER_BYTES + SETTINGS_BYTES + 4 * expected,
        )?;
        let floats = &mut scratch.numbers;
        floats.clear();
        floats.extend(
            rest.as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes)),
        );
        let mut left = &floats[..];
        for part in layout.parts(range.clone()) {
            let (own, after) = left.split_at(numbers(&part));
            left = after;
            let finite = match shape(&part) {
                None => own.iter().all(|x| x.is_finite()),
                Some(shape) => split(shape, own).are_finite(*simd, shape),
            };
            if !finite {
                return Err(DecodeError::Number(
                    "a factor or an element that is not finite",
                ));
            }
        }
        let mut left = &floats[..];
        for part in layout.parts(range.clone()) {
            let (own, after) = left.split_at(numbers(&part));
            left = after;
            let target = &mut target[part.range.start - range.start..part.range.end - range.start];
            match shape(&part) {
                Some(shape) => accumulate(*simd, shape, &split(shape, own), weight, target),
                None => target
                    .iter_mut()
                    .zip(own)
                    .for_each(|(sum, x)| *sum += weight * x),
            }
        }
        Ok(())
    }
}

fn split(shape: Shape, numbers: &[f32]) -> Factors<'_> {
    let (p, q) = numbers.split_at(shape.rank * shape.rows);
    Factors { p, q }
}
