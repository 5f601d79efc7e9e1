//! Bodies of quantized frames.

use std::ops::Range;

use super::{Decoder, Scratch, field};
use crate::coding::{Alphabet, Coded, bytes_max};
use crate::error::DecodeError;
use crate::frame::{FrameId, SETTINGS_BYTES, Settings};
use crate::quantizer::sparse::{Choice, Sparse, draw};
use crate::quantizer::uniform::accumulate_dithered;
use crate::quantizer::{Extra, Parameters, Quantizer};
use crate::rounding::Rounding;
use crate::spec::CodecMethod;
use crate::values::{Table, accumulate, count as count_of, places};

/// The codes of a body and what they mean.
struct Body<'a> {
    quantizer: Quantizer,
    /// Elements of a group; 0: all of a tensor.
    bucket: usize,
    parameters: &'a [u8],
    extras: &'a [u8],
    rounding: Rounding,
}

impl Decoder {
    /// See [`Decoder::frame_bytes_max`].
    pub(super) fn quantized_bytes_max(&self, range: Range<usize>) -> usize {
        let CodecMethod::Quantized {
            quantizer,
            bucket,
            coding,
            budget,
        } = self.spec.method()
        else {
            return 0;
        };
        let elements = range.len();
        let Alphabet { size, .. } = quantizer.alphabet();
        let alphabet = if budget.is_some() {
            size.max(255)
        } else {
            size
        };
        let groups = self.layout.groups(range, *bucket).count();
        let extras = quantizer
            .escape()
            .map_or(0, |(_, extra)| 4 + elements * extra.width());
        let book = match quantizer {
            Quantizer::Book(book) => book.bytes(),
            _ => 0,
        };
        let symbols = bytes_max(*coding, alphabet, elements);
        SETTINGS_BYTES + book + 4 * quantizer.parameters() * groups + extras + symbols
    }

    pub(super) fn dequantize(
        &mut self,
        body: &[u8],
        id: FrameId,
        range: Range<usize>,
        weight: f32,
        target: &mut [f32],
    ) -> Result<(), DecodeError> {
        let CodecMethod::Quantized {
            quantizer,
            bucket,
            budget,
            ..
        } = self.spec.method()
        else {
            return Ok(());
        };
        let mut rest = body;
        let settings = Settings::read(&mut rest)?;
        self.check_settings(settings)?;
        let mut quantizer = quantizer.clone();
        match &mut quantizer {
            Quantizer::Uniform(q) if budget.is_some() => {
                if !(1..=127).contains(&settings.levels) {
                    return Err(DecodeError::Number("a number of levels beyond 1 to 127"));
                }
                q.span = settings.levels;
            }
            _ => field("number of levels", settings.levels.into(), 0)?,
        }
        if let Quantizer::Book(book) = &mut quantizer {
            *book = book.read(&mut rest)?;
        }
        let groups = self.layout.groups(range.clone(), *bucket).count();
        let parameters = take(&mut rest, 4 * quantizer.parameters() * groups)?;
        let extras = match quantizer.escape() {
            None => &[][..],
            Some((_, extra)) => {
                let count = u32::from_le_bytes(*rest.split_first_chunk().ok_or_else(cut)?.0);
                rest = &rest[4..];
                let width = u64::from(count) * extra.width() as u64;
                take(&mut rest, usize::try_from(width).unwrap_or(usize::MAX))?
            }
        };
        let body = Body {
            bucket: *bucket,
            parameters,
            extras,
            rounding: Rounding::new(self.seed, id),
            quantizer,
        };
        let Scratch {
            symbols,
            selection,
            coder,
            ..
        } = &mut self.scratch;
        symbols.resize(range.len(), 0);
        if let Quantizer::Sparse(Sparse {
            choice: Choice::Random(fraction),
            ..
        }) = body.quantizer
        {
            field("lossless code", settings.coding.into(), 0)?;
            if !rest.is_empty() {
                return Err(DecodeError::Trailing { extra: rest.len() });
            }
            for group in self.layout.groups(range.clone(), body.bucket) {
                let within = group.start - range.start..group.end - range.start;
                let first = within.start as u32;
                draw(
                    fraction,
                    first,
                    body.rounding,
                    1,
                    selection,
                    &mut symbols[within],
                );
            }
        } else {
            let coded = Coded::from_number(settings.coding);
            let coded = coded.ok_or(DecodeError::Symbols("unknown lossless code"))?;
            coded.decode(self.simd, coder, body.quantizer.alphabet(), rest, symbols)?;
        }
        self.check(&body, range.clone())?;
        self.add(&body, range, weight, target);
        Ok(())
    }

    /// Everything that could be wrong with numbers and escapes.
    fn check(&self, body: &Body<'_>, range: Range<usize>) -> Result<(), DecodeError> {
        let count = body.quantizer.parameters();
        let numbers = body.parameters.as_chunks::<4>().0;
        if !numbers.iter().all(|bytes| {
            let number = f32::from_le_bytes(*bytes);
            number.is_finite() && number.is_sign_positive()
        }) {
            return Err(DecodeError::Number(
                "a scale that is negative or not finite",
            ));
        }
        let mut table = Table::default();
        let Alphabet { size, .. } = body.quantizer.alphabet();
        // The largest parameters make the largest values.
        let largest = |i: usize| {
            let of = numbers
                .iter()
                .skip(i)
                .step_by(count.max(1))
                .take(if count > i { usize::MAX } else { 0 });
            of.map(|bytes| f32::from_le_bytes(*bytes))
                .fold(0.0, f32::max)
        };
        let parameters = [largest(0), largest(1)];
        body.quantizer.meaning(parameters, &mut table);
        // A dither adds half a level.
        let finite = |value: f32| {
            (value
                * if body.quantizer.is_dithered() {
                    1.5
                } else {
                    1.0
                })
            .is_finite()
        };
        if !table.values[..size].iter().all(|value| finite(*value)) {
            return Err(DecodeError::Number("a scale that is too large"));
        }
        let Some((escape, extra)) = body.quantizer.escape() else {
            return Ok(());
        };
        let escapes = count_of(self.simd, escape, &self.scratch.symbols[..range.len()]);
        if escapes != body.extras.len() / extra.width() {
            return Err(DecodeError::Symbols("as many escapes as numbers for them"));
        }
        if !extra.numbers(body.extras).all(f32::is_finite) {
            return Err(DecodeError::Number("an escape that is not finite"));
        }
        Ok(())
    }

    /// Adds what was checked.
    fn add(&mut self, body: &Body<'_>, range: Range<usize>, weight: f32, target: &mut [f32]) {
        let Self {
            layout,
            simd,
            scratch,
            ..
        } = self;
        let Body {
            quantizer,
            rounding,
            ..
        } = body;
        let Alphabet { size, zero } = quantizer.alphabet();
        let count = quantizer.parameters();
        let mut numbers = body
            .parameters
            .as_chunks::<4>()
            .0
            .iter()
            .map(|n| f32::from_le_bytes(*n));
        let escape = quantizer.escape();
        let mut extras = escape.map(|(_, extra)| extra.numbers(body.extras));
        for group in layout.groups(range.clone(), body.bucket) {
            let within = group.start - range.start..group.end - range.start;
            let mut parameters: Parameters = [0.0; 2];
            for (parameter, number) in parameters[..count].iter_mut().zip(&mut numbers) {
                *parameter = number;
            }
            let symbols = &scratch.symbols[within.clone()];
            let target = &mut target[within.clone()];
            if quantizer.is_dithered() {
                let (unit, zero, first) = (parameters[0], i32::from(zero), within.start as u32);
                accumulate_dithered(*simd, unit, zero, *rounding, first, weight, symbols, target);
                continue;
            }
            quantizer.meaning(parameters, &mut scratch.table);
            for value in &mut scratch.table.values[..size] {
                *value *= weight;
            }
            accumulate(*simd, size, &scratch.table, symbols, target);
            if let (Some((escape, extra)), Some(extras)) = (escape, &mut extras) {
                for (place, number) in places(*simd, escape, symbols).zip(extras) {
                    let value = match extra {
                        // No encoder sends a level that is worth an infinity.
                        Extra::Level => (number * parameters[0]).clamp(-f32::MAX, f32::MAX),
                        Extra::Fp32 | Extra::Fp16 => number,
                    };
                    target[place] += weight * value;
                }
            }
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], DecodeError> {
    let (taken, after) = rest.split_at_checked(count).ok_or_else(cut)?;
    *rest = after;
    Ok(taken)
}

fn cut() -> DecodeError {
    DecodeError::Symbols("the body ends before its symbols")
}
