//! The receiving side.

use std::ops::Range;

use crate::coding::{Coded, bytes_max};
use crate::encoder::{SETTINGS_BYTES, norm_number};
use crate::error::DecodeError;
use crate::frame::{FrameId, HEADER_BYTES, Header, verify};
use crate::layout::Layout;
use crate::spec::CodecSpec;
use crate::uniform::Uniform;

/// Adds frames to a sum. Keeps nothing between frames but scratch memory.
///
/// A frame is checked completely before anything is added: a decoder neither panics, nor allocates
/// beyond the bucket's size, nor lets a NaN through, whatever the bytes are.
#[derive(Clone, Debug)]
pub struct Decoder {
    spec: CodecSpec,
    layout: Layout,
    symbols: Vec<u8>,
}

impl Decoder {
    /// A decoder for frames of this codec and layout.
    pub fn new(spec: &CodecSpec, layout: &Layout) -> Self {
        Self {
            spec: *spec,
            layout: layout.clone(),
            symbols: Vec::new(),
        }
    }

    /// The number of samples behind a frame, its weight in the mean. The frame is not verified yet.
    pub fn samples(frame: &[u8]) -> Result<u32, DecodeError> {
        Ok(Header::read(frame)?.samples)
    }

    /// Bound on the bytes of a frame of the bucket `range`, whatever the gradient is.
    pub fn frame_bytes_max(&self, range: Range<usize>) -> usize {
        let body = match (self.spec.cast(), self.spec.quantizer()) {
            (Some(cast), _) => range.len() * cast.width(),
            (None, None) => 0,
            (None, Some(quantizer)) => {
                SETTINGS_BYTES
                    + self.scale_bytes(quantizer, range.clone())
                    + bytes_max(quantizer.alphabet(), range.len())
            }
        };
        HEADER_BYTES + body
    }

    /// `target[i] += weight · q[i]` over the bucket `range`, for the frame that should be `expected`.
    ///
    /// # Errors
    ///
    /// If the frame is not exactly what an encoder of this codec writes for this id and bucket;
    /// `target` is then untouched.
    ///
    /// # Panics
    ///
    /// If `target` does not have the length of `range`.
    pub fn accumulate(
        &mut self,
        frame: &[u8],
        expected: FrameId,
        range: Range<usize>,
        weight: f32,
        target: &mut [f32],
    ) -> Result<(), DecodeError> {
        assert_eq!(
            target.len(),
            range.len(),
            "the target is that of the bucket"
        );
        let header = Header::read(frame)?;
        verify(frame)?;
        field("codec", header.codec.into(), self.spec.number().into())?;
        field("step", header.id.step, expected.step)?;
        field("rank", header.id.rank.into(), expected.rank.into())?;
        field("bucket", header.id.bucket.into(), expected.bucket.into())?;
        field(
            "number of elements",
            header.elements.into(),
            range.len() as u64,
        )?;
        let body = &frame[HEADER_BYTES..];
        if let Some(cast) = self.spec.cast() {
            exactly(frame.len(), HEADER_BYTES + range.len() * cast.width())?;
            if !cast.is_finite(body) {
                return Err(DecodeError::Number("an element that is not finite"));
            }
            cast.accumulate(body, weight, target);
        } else if let Some(quantizer) = self.spec.quantizer() {
            self.dequantize(quantizer, body, range, weight, target)?;
        }
        Ok(())
    }

    fn dequantize(
        &mut self,
        quantizer: Uniform,
        body: &[u8],
        range: Range<usize>,
        weight: f32,
        target: &mut [f32],
    ) -> Result<(), DecodeError> {
        let scale_bytes = self.scale_bytes(quantizer, range.clone());
        let expected = SETTINGS_BYTES + scale_bytes;
        let Some((settings, rest)) = body.split_first_chunk::<SETTINGS_BYTES>() else {
            return Err(DecodeError::Truncated {
                found: body.len(),
                expected,
            });
        };
        let Some((scales, coded)) = rest.split_at_checked(scale_bytes) else {
            return Err(DecodeError::Truncated {
                found: body.len(),
                expected,
            });
        };
        let [levels, norm, coding, reserved, bucket @ ..] = *settings;
        field("number of levels", levels.into(), quantizer.levels.into())?;
        field("norm", norm.into(), norm_number(quantizer.norm).into())?;
        field("reserved byte", reserved.into(), 0)?;
        field(
            "scale group",
            u32::from_le_bytes(bucket).into(),
            quantizer.bucket.into(),
        )?;
        let coding = Coded::from_header(coding).ok_or(DecodeError::Symbols("unknown coding"))?;
        let scales = scales.as_chunks::<4>().0;
        let usable = |scale: f32| scale.is_finite() && scale.is_sign_positive();
        if !scales
            .iter()
            .all(|scale| usable(f32::from_le_bytes(*scale)))
        {
            return Err(DecodeError::Number(
                "a scale that is negative or not finite",
            ));
        }
        self.symbols.resize(range.len(), 0);
        coding.decode(quantizer.alphabet(), coded, &mut self.symbols)?;
        let groups = self.layout.groups(range.clone(), quantizer.bucket as usize);
        for (group, scale) in groups.zip(scales) {
            let within = group.start - range.start..group.end - range.start;
            let symbols = &self.symbols[within.clone()];
            let scale = f32::from_le_bytes(*scale);
            quantizer.accumulate(scale, symbols, weight, &mut target[within]);
        }
        Ok(())
    }

    fn scale_bytes(&self, quantizer: Uniform, range: Range<usize>) -> usize {
        4 * self.layout.groups(range, quantizer.bucket as usize).count()
    }
}

fn field(field: &'static str, found: u64, expected: u64) -> Result<(), DecodeError> {
    if found == expected {
        Ok(())
    } else {
        Err(DecodeError::Field {
            field,
            found,
            expected,
        })
    }
}

fn exactly(found: usize, expected: usize) -> Result<(), DecodeError> {
    if found < expected {
        return Err(DecodeError::Truncated { found, expected });
    }
    if found > expected {
        return Err(DecodeError::Trailing {
            extra: found - expected,
        });
    }
    Ok(())
}
