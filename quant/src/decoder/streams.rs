//! Symbols of frames with a bit budget: one stream for all tensors, or several that tensors share.

use std::ops::Range;

use super::body::{Piece, take};
use super::{Decoder, field};
use crate::coding::{Coded, read_varint};
use crate::error::DecodeError;
use crate::frame::{Settings, Stream};
use crate::quantizer::Quantizer;

/// A stream's part of the gathered symbols.
#[derive(Clone, Debug)]
pub(super) struct Share {
    elements: usize,
    /// Where the next part's symbols begin.
    next: usize,
    quantizer: Quantizer,
}

impl Decoder {
    /// Takes all streams off the body. There is a piece for each part then, and their symbols are known.
    pub(super) fn read_streams(
        &mut self,
        settings: Settings,
        quantizer: &Quantizer,
        range: Range<usize>,
        mut rest: &[u8],
        pieces: &mut Vec<Piece>,
    ) -> Result<(), DecodeError> {
        if settings.streams == 0 {
            return Err(DecodeError::Symbols("no stream"));
        }
        if settings.streams == 1 {
            let quantizer = with_levels(quantizer, settings.levels)?;
            let piece = Piece {
                range: range.clone(),
                stream: 0,
                quantizer,
            };
            self.scratch.read(
                self.simd,
                &piece,
                range.start,
                range.len(),
                settings.coding,
                rest,
            )?;
            pieces.push(piece);
            return Ok(());
        }
        let (layout, scratch) = (&self.layout, &mut self.scratch);
        let shares = &mut scratch.streams;
        shares.clear();
        let empty = Share {
            elements: 0,
            next: 0,
            quantizer: quantizer.clone(),
        };
        shares.resize(settings.streams.into(), empty);
        // Which stream each part belongs to, run after run.
        let (mut stream, mut left) = (0, 0);
        for part in layout.parts(range.clone()) {
            if left == 0 {
                stream = take(&mut rest, 1)?[0];
                left = read_varint(&mut rest).unwrap_or(0);
            }
            let share = shares.get_mut(usize::from(stream));
            let share = share.filter(|_| left > 0);
            let share = share.ok_or(DecodeError::Symbols("a tensor in no stream"))?;
            left -= 1;
            share.elements += part.range.len();
            pieces.push(Piece {
                range: part.range,
                stream,
                quantizer: quantizer.clone(),
            });
        }
        if left > 0 {
            return Err(DecodeError::Symbols(
                "more tensors in streams than there are",
            ));
        }
        scratch.gathered.resize(range.len(), 0);
        let mut free = &mut scratch.gathered[..];
        let mut start = 0;
        for share in &mut *shares {
            if share.elements == 0 {
                return Err(DecodeError::Symbols("a stream of no tensor"));
            }
            let stream = Stream::read(&mut rest)?;
            share.quantizer = with_levels(quantizer, stream.levels)?;
            share.next = start;
            start += share.elements;
            // Invariant: a u32 fits.
            let coded = take(&mut rest, stream.bytes as usize)?;
            let code = Coded::from_number(stream.coding);
            let code = code.ok_or(DecodeError::Symbols("unknown lossless code"))?;
            // Invariant: the shares are the parts, and these the bucket.
            let (own, after) = std::mem::take(&mut free).split_at_mut(share.elements);
            free = after;
            let alphabet = share.quantizer.alphabet();
            code.decode(self.simd, &mut scratch.coder, alphabet, coded, own)?;
        }
        if !rest.is_empty() {
            return Err(DecodeError::Trailing { extra: rest.len() });
        }
        scratch.symbols.resize(range.len(), 0);
        for piece in pieces {
            let share = &mut shares[usize::from(piece.stream)];
            piece.quantizer.clone_from(&share.quantizer);
            let within = piece.range.start - range.start..piece.range.end - range.start;
            let from = share.next..share.next + within.len();
            share.next = from.end;
            scratch.symbols[within].copy_from_slice(&scratch.gathered[from]);
        }
        Ok(())
    }
}

/// The quantizer with the levels that a stream states.
fn with_levels(quantizer: &Quantizer, levels: u8) -> Result<Quantizer, DecodeError> {
    let mut quantizer = quantizer.clone();
    match &mut quantizer {
        Quantizer::Uniform(q) if (1..=127).contains(&levels) => q.levels = levels,
        Quantizer::DeadZone(q) if (1..=126).contains(&levels) => q.levels = levels,
        Quantizer::Uniform(_) | Quantizer::DeadZone(_) => {
            return Err(DecodeError::Number(
                "a number of levels that there cannot be",
            ));
        }
        _ => field("number of levels", levels.into(), 0)?,
    }
    Ok(quantizer)
}
