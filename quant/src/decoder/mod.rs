//! The receiving side.

mod body;
mod factors;
mod streams;

use std::ops::Range;

use crate::cast::Cast;
use crate::coding;
use crate::error::DecodeError;
use crate::frame::{FrameId, HEADER_BYTES, Header, SETTINGS_BYTES, Settings, verify};
use crate::layout::Layout;
use crate::quantizer::book::Book;
use crate::simd::Simd;
use crate::spec::{CodecMethod, CodecSpec};
use crate::values::Table;

/// Adds frames to a sum. Keeps nothing between frames but scratch memory.
///
/// A frame is checked completely before anything is added: a decoder neither panics, nor allocates
/// beyond the bucket's size, nor lets a NaN through, whatever the bytes are.
#[derive(Clone, Debug)]
pub struct Decoder {
    spec: CodecSpec,
    fingerprint: u32,
    layout: Layout,
    seed: u64,
    simd: Simd,
    scratch: Scratch,
}

#[derive(Clone, Debug, Default)]
struct Scratch {
    symbols: Vec<u8>,
    /// Symbols stream after stream, where there are several.
    gathered: Vec<u8>,
    streams: Vec<streams::Share>,
    pieces: Vec<body::Piece>,
    selection: Vec<u32>,
    /// Factors or elements of a low-rank frame.
    numbers: Vec<f32>,
    table: Table,
    coder: coding::Scratch,
    /// The last frame's.
    book: Option<Book>,
}

impl Decoder {
    /// A decoder for frames of this codec and layout; `seed` is the run's.
    pub fn new(spec: &CodecSpec, layout: &Layout, seed: u64) -> Self {
        Self {
            fingerprint: spec.fingerprint(),
            spec: spec.clone(),
            layout: layout.clone(),
            seed,
            simd: Simd::best(),
            scratch: Scratch::default(),
        }
    }

    /// The same with these instructions; the sums are equal.
    #[must_use]
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.simd = simd;
        self
    }

    /// The number of samples behind a frame, its weight in the mean. The frame is not verified yet.
    pub fn samples(frame: &[u8]) -> Result<u32, DecodeError> {
        Ok(Header::read(frame)?.samples)
    }

    /// Whether a frame is as it was sealed, and the one that should be `expected`: what can be known of it
    /// before it is decoded.
    ///
    /// # Errors
    ///
    /// If it is damaged, or another frame.
    pub fn verify(frame: &[u8], expected: FrameId) -> Result<(), DecodeError> {
        let found = Header::read(frame)?.id;
        verify(frame)?;
        field("step", found.step, expected.step)?;
        field("rank", found.rank.into(), expected.rank.into())?;
        field("bucket", found.bucket.into(), expected.bucket.into())
    }

    /// The symbols of the frame that was accumulated last, in their order, as parts of the streams that its
    /// lossless stage coded; none for codecs that have none. Symbols of different streams do not mean the
    /// same.
    pub fn symbols(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let pieces = match self.spec.method() {
            CodecMethod::Quantized { quantizer, .. } if !quantizer.is_drawn() => {
                &self.scratch.pieces[..]
            }
            _ => &[],
        };
        // They are the bucket's, one after another.
        let mut rest = &self.scratch.symbols[..];
        pieces.iter().map(move |piece| {
            let symbols = rest.split_off(..piece.range.len()).unwrap_or_default();
            (piece.stream, symbols)
        })
    }

    /// Bound on the bytes of a frame of the bucket `range`, whatever the gradient is; that of a member which
    /// leaves is fp32's.
    pub fn frame_bytes_max(&self, range: Range<usize>) -> usize {
        let body = match self.spec.method() {
            CodecMethod::Cast(cast) => range.len() * cast.width(),
            CodecMethod::Quantized { .. } => self.quantized_bytes_max(range.clone()),
            CodecMethod::LowRank { .. } => SETTINGS_BYTES + 4 * range.len(),
        };
        HEADER_BYTES + body.max(range.len() * Cast::Fp32.width())
    }

    /// `target[i] += weight · q[i]` over the bucket `range`, for the frame that should be `expected`: one
    /// of the run's codec, or of [`Encoder::flush`](crate::Encoder::flush).
    ///
    /// # Errors
    ///
    /// If the frame is not exactly what an encoder of this codec writes for this id and bucket;
    /// `target` is then untouched.
    ///
    /// # Panics
    ///
    /// If `target` does not have the length of `range`, or `range` reaches beyond the layout.
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
        assert!(
            range.end <= self.layout.elements(),
            "the bucket lies in the layout"
        );
        let header = Header::read(frame)?;
        Self::verify(frame, expected)?;
        let flushed = header.codec == Cast::FLUSH;
        if !flushed {
            field("codec", header.codec.into(), self.spec.number().into())?;
        }
        field(
            "number of elements",
            header.elements.into(),
            range.len() as u64,
        )?;
        let body = &frame[HEADER_BYTES..];
        let method = self.spec.method();
        let method = if flushed {
            self.scratch.symbols.clear();
            self.scratch.pieces.clear();
            &CodecMethod::Cast(Cast::Fp32)
        } else {
            method
        };
        match method {
            CodecMethod::Cast(cast) => {
                exactly(frame.len(), HEADER_BYTES + range.len() * cast.width())?;
                if !cast.is_finite(self.simd, body) {
                    return Err(DecodeError::Number("an element that is not finite"));
                }
                cast.accumulate(self.simd, body, weight, target);
                Ok(())
            }
            CodecMethod::Quantized { .. } => self.dequantize(body, expected, range, weight, target),
            CodecMethod::LowRank { rank } => self.multiply(*rank, body, range, weight, target),
        }
    }
}

impl Decoder {
    fn check_settings(&self, settings: Settings) -> Result<(), DecodeError> {
        if settings.fingerprint != self.fingerprint {
            return Err(DecodeError::Settings {
                found: settings.fingerprint,
                expected: self.fingerprint,
            });
        }
        let has_budget = matches!(
            self.spec.method(),
            CodecMethod::Quantized {
                budget: Some(_),
                ..
            }
        );
        if !has_budget {
            field("number of streams", settings.streams.into(), 0)?;
        }
        if settings.streams != 1 {
            field("number of levels", settings.levels.into(), 0)?;
        }
        if settings.streams > 1 {
            field("lossless code", settings.coding.into(), 0)?;
        }
        Ok(())
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
