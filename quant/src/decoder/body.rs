//! Bodies of quantized frames.

use std::ops::Range;

use super::{Decoder, Scratch, field};
use crate::coding::{Alphabet, Coded, bytes_max};
use crate::error::DecodeError;
use crate::frame::{FrameId, SETTINGS_BYTES, STREAM_BYTES, Settings};
use crate::quantizer::sparse::{Choice, Sparse, draw};
use crate::quantizer::uniform::accumulate_dithered;
use crate::quantizer::{Extra, Parameters, Quantizer};
use crate::rounding::Rounding;
use crate::simd::PREFETCH_LEAD;
use crate::spec::CodecMethod;
use crate::values::{Accumulate, Table, accumulate, count as count_of, places};

/// Elements that are added while as many of the next are on their way from memory.
const RUN: usize = 1024;

/// A part of a bucket whose symbols are one stream: all of it, or what belongs to one tensor.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Elements of the flat vector.
    pub(super) range: Range<usize>,
    /// Index of its stream.
    pub(super) stream: u8,
    pub(super) quantizer: Quantizer,
}

/// What a body holds besides symbols.
struct Body<'a> {
    pieces: Vec<Piece>,
    /// Elements of a group; 0: all of a tensor.
    bucket: usize,
    parameters: &'a [[u8; 4]],
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
        let groups = self.layout.count_groups(range.clone(), *bucket);
        let extras = quantizer
            .escape()
            .map_or(0, |(_, extra)| 4 + range.len() * extra.width());
        let book = match quantizer {
            Quantizer::Book(book) => book.bytes(),
            _ => 0,
        };
        let Alphabet { size, .. } = quantizer.alphabet();
        let symbols = match budget {
            None => bytes_max(*coding, size, range.len()),
            Some(_) => {
                // A tensor's place, and a stream of its own.
                let of = |part: usize| 4 + STREAM_BYTES + bytes_max(*coding, size.max(255), part);
                self.layout
                    .parts(range)
                    .map(|part| of(part.range.len()))
                    .sum()
            }
        };
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
        let mut pieces = std::mem::take(&mut self.scratch.pieces);
        // The last frame's share the book.
        pieces.clear();
        let quantizer = match quantizer {
            Quantizer::Book(book) => {
                let book = self.scratch.book.get_or_insert_with(|| book.clone());
                book.read(&mut rest)?;
                Quantizer::Book(book.clone())
            }
            other => other.clone(),
        };
        let groups = self.layout.count_groups(range.clone(), *bucket);
        let parameters = take(&mut rest, 4 * quantizer.parameters() * groups)?;
        let extras = match quantizer.escape() {
            None => &[][..],
            Some((_, extra)) => {
                let (count, after) = rest.split_first_chunk().ok_or_else(cut)?;
                rest = after;
                let width = u64::from(u32::from_le_bytes(*count)) * extra.width() as u64;
                take(&mut rest, usize::try_from(width).unwrap_or(usize::MAX))?
            }
        };
        let mut body = Body {
            pieces,
            bucket: *bucket,
            parameters: parameters.as_chunks().0,
            extras,
            rounding: Rounding::new(self.seed, id),
        };
        let all = range.clone();
        if budget.is_some() {
            self.read_streams(settings, &quantizer, range, rest, &mut body.pieces)?;
        } else {
            let piece = Piece {
                range,
                stream: 0,
                quantizer,
            };
            if let Quantizer::Sparse(Sparse {
                choice: Choice::Random(fraction),
                ..
            }) = piece.quantizer
            {
                field("lossless code", settings.coding.into(), 0)?;
                if !rest.is_empty() {
                    return Err(DecodeError::Trailing { extra: rest.len() });
                }
                let Scratch {
                    symbols, selection, ..
                } = &mut self.scratch;
                symbols.resize(all.len(), 0);
                for group in self.layout.groups(all.clone(), body.bucket) {
                    let within = group.start - all.start..group.end - all.start;
                    // Invariant: a bucket has less than 2^32 elements.
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
                let code = settings.coding;
                self.scratch
                    .read(self.simd, &piece, all.start, all.len(), code, rest)?;
            }
            body.pieces.push(piece);
        }
        let checked = self.check(&body, all.clone());
        if checked.is_ok() {
            self.add(&body, all, weight, target);
        }
        self.scratch.pieces = body.pieces;
        checked
    }

    /// Everything that could be wrong with numbers and escapes.
    fn check(&self, body: &Body<'_>, bucket: Range<usize>) -> Result<(), DecodeError> {
        let mut numbers = body
            .parameters
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes));
        // All pieces have the same escape.
        let extra = body
            .pieces
            .first()
            .and_then(|piece| piece.quantizer.escape());
        let mut width = 1;
        if let Some((_, extra)) = extra {
            width = extra.width();
            if !extra.numbers(body.extras).all(f32::is_finite) {
                return Err(DecodeError::Number("an escape that is not finite"));
            }
        }
        let (mut table, mut escapes) = (Table::default(), 0);
        for Piece {
            range, quantizer, ..
        } in &body.pieces
        {
            let Alphabet { size, .. } = quantizer.alphabet();
            // The largest parameters make the largest values.
            let mut largest: Parameters = [0.0; 2];
            for _ in self.layout.groups(range.clone(), body.bucket) {
                for (largest, number) in largest[..quantizer.parameters()]
                    .iter_mut()
                    .zip(&mut numbers)
                {
                    if !(number.is_finite() && number.is_sign_positive()) {
                        return Err(DecodeError::Number(
                            "a scale that is negative or not finite",
                        ));
                    }
                    *largest = largest.max(number);
                }
            }
            quantizer.meaning(largest, &mut table);
            // A dither adds half a level to at least one.
            let margin = if quantizer.is_dithered() { 1.5 } else { 1.0 };
            if !table.values[..size]
                .iter()
                .all(|value| (value * margin).is_finite())
            {
                return Err(DecodeError::Number("a scale that is too large"));
            }
            if let Some((escape, _)) = quantizer.escape() {
                let symbols =
                    &self.scratch.symbols[range.start - bucket.start..range.end - bucket.start];
                escapes += count_of(self.simd, escape, symbols);
            }
        }
        if escapes != body.extras.len() / width {
            return Err(DecodeError::Symbols("as many escapes as numbers for them"));
        }
        Ok(())
    }

    /// Adds what was checked.
    fn add(&mut self, body: &Body<'_>, bucket: Range<usize>, weight: f32, target: &mut [f32]) {
        let Self {
            layout,
            simd,
            scratch,
            ..
        } = self;
        let mut numbers = body
            .parameters
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes));
        let mut extras = body.extras;
        for Piece {
            range, quantizer, ..
        } in &body.pieces
        {
            let Alphabet { size, zero } = quantizer.alphabet();
            for group in layout.groups(range.clone(), body.bucket) {
                let within = group.start - bucket.start..group.end - bucket.start;
                let mut parameters: Parameters = [0.0; 2];
                let count = quantizer.parameters();
                for (parameter, number) in parameters[..count].iter_mut().zip(&mut numbers) {
                    *parameter = number;
                }
                let symbols = &scratch.symbols[within.clone()];
                if quantizer.is_dithered() {
                    let (unit, zero, first) = (parameters[0], i32::from(zero), within.start as u32);
                    let rounding = body.rounding;
                    accumulate_dithered(
                        *simd,
                        unit,
                        zero,
                        rounding,
                        first,
                        weight,
                        symbols,
                        &mut target[within],
                    );
                    continue;
                }
                quantizer.meaning(parameters, &mut scratch.table);
                for value in &mut scratch.table.values[..size] {
                    *value *= weight;
                }
                let mut rest = &mut target[within.start..];
                for symbols in symbols.chunks(RUN) {
                    let (run, ahead) = rest.split_at_mut(symbols.len());
                    let given = Accumulate {
                        alphabet: size,
                        table: &scratch.table,
                        symbols,
                        ahead: ahead.get(PREFETCH_LEAD..).unwrap_or_default(),
                    };
                    accumulate(*simd, &given, run);
                    rest = ahead;
                }
                let escape = quantizer.escape().filter(|_| !extras.is_empty());
                let Some((escape, extra)) = escape else {
                    continue;
                };
                let mut taken = 0;
                for (place, number) in places(*simd, escape, symbols).zip(extra.numbers(extras)) {
                    let value = match extra {
                        // No encoder sends a level that is worth an infinity.
                        Extra::Level => (number * parameters[0]).clamp(-f32::MAX, f32::MAX),
                        Extra::Fp32 | Extra::Fp16 => number,
                    };
                    target[within.start + place] += weight * value;
                    taken += extra.width();
                }
                extras = &extras[taken..];
            }
        }
    }
}

impl Scratch {
    /// Decodes the symbols of a piece of the bucket that begins at `start` and has `elements`.
    pub(super) fn read(
        &mut self,
        simd: crate::simd::Simd,
        piece: &Piece,
        start: usize,
        elements: usize,
        code: u8,
        coded: &[u8],
    ) -> Result<(), DecodeError> {
        self.symbols.resize(elements, 0);
        let symbols = &mut self.symbols[piece.range.start - start..piece.range.end - start];
        let code = Coded::from_number(code);
        let code = code.ok_or(DecodeError::Symbols("unknown lossless code"))?;
        code.decode(
            simd,
            &mut self.coder,
            piece.quantizer.alphabet(),
            coded,
            symbols,
        )
    }
}

pub(super) fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], DecodeError> {
    let (taken, after) = rest.split_at_checked(count).ok_or_else(cut)?;
    *rest = after;
    Ok(taken)
}

fn cut() -> DecodeError {
    DecodeError::Symbols("the body ends before its symbols")
}
