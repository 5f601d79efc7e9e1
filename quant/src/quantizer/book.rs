//! Codebooks: levels that are not uniform. Powers of two, logarithms, small floats, fitted levels.

use std::sync::Arc;

use super::{Group, Parameters, usable};
use crate::coding::Alphabet;
use crate::error::DecodeError;
use crate::norm::{Norm, Scale};
use crate::rounding::Rounding;
use crate::simd::kernel;

/// q(v) = scale · sgn(v) · m for one of the magnitudes 0 = m₀ < m₁ < … < mₛ = 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Book {
    kind: Kind,
    norm: Norm,
    pub(crate) stochastic: bool,
    /// m₀ … mₛ. Shared, since every frame takes a copy of its quantizer.
    magnitudes: Arc<[f32]>,
    /// For each mⱼ but the first, from where on a value is nearer to it, by the book's own measure.
    cuts: Arc<[f32]>,
    /// Where to begin to look for a value among the magnitudes, or among the cuts.
    index: Index,
}

/// A table over exponent and upper four bits of mantissa of numbers from 0 to 1: how many of an ascending
/// list are at most the least of them.
#[derive(Clone, Debug, PartialEq)]
struct Index(Arc<[u8]>);

impl Index {
    fn of(ascending: &[f32]) -> Self {
        let mut index = Self(vec![0; Self::key(1.0) + 1].into());
        index.set(ascending);
        index
    }

    /// Becomes the index of another list.
    fn set(&mut self, ascending: &[f32]) {
        let mut count = 0;
        for (key, place) in (0_u32..).zip(Arc::make_mut(&mut self.0)) {
            let least = f32::from_bits(key << Self::SHIFT);
            while ascending.get(count).is_some_and(|next| *next <= least) {
                count += 1;
            }
            // Invariant: no list has more than 128.
            *place = count as u8;
        }
    }

    const SHIFT: u32 = 19;

    fn key(x: f32) -> usize {
        (x.to_bits() >> Self::SHIFT) as usize
    }

    /// How many of the list are at most x, which is from 0 to 1.
    #[inline(always)]
    fn at_most(&self, ascending: &[f32], x: f32) -> usize {
        let mut count = usize::from(self.0[Self::key(x)]);
        while ascending.get(count).is_some_and(|next| *next <= x) {
            count += 1;
        }
        count
    }
}

/// Which book it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// 1, 1/b, 1/b², … with the base b = 2 or √2 ([`Book::powers`]).
    Powers,
    /// All of natural compression's powers of two: the scale is one itself, and what rounds is the
    /// mantissa alone. Horváth et al., "Natural compression for distributed deep learning", 2019.
    Natural,
    /// The numbers of a small binary float.
    Float,
    /// Fitted to the frame's values, and sent in it.
    Fitted,
}

impl Book {
    /// {0, b^(1−s), …, 1/b, 1}: NUQSGD's levels with b = 2 (Ramezani-Kebrya et al., 2021); with
    /// nearest rounding, in logarithms, those of LogNet (Lee et al., 2017).
    pub(crate) fn powers(levels: u8, halves: bool, norm: Norm, stochastic: bool) -> Self {
        let ratio = if halves { 0.5 } else { 0.5_f64.sqrt() };
        let mut magnitudes = vec![0.0; usize::from(levels) + 1];
        let mut magnitude = 1.0_f64;
        for place in magnitudes[1..].iter_mut().rev() {
            *place = magnitude as f32;
            magnitude *= ratio;
        }
        // In logarithms the middle between two is their geometric mean; below the smallest, its half.
        let mut cuts: Vec<f32> = magnitudes[1..]
            .iter()
            .map(|m| m * ratio.sqrt() as f32)
            .collect();
        cuts[0] = magnitudes[1] / 2.0;
        Self::new(Kind::Powers, magnitudes, cuts, norm, stochastic)
    }

    /// 127 powers of two below the scale and the scale itself, rounded stochastically: ω = 1/8.
    pub(crate) fn natural() -> Self {
        Self {
            kind: Kind::Natural,
            ..Self::powers(127, true, Norm::Linf, true)
        }
    }

    /// The finite numbers of a float with so many bits of exponent and mantissa, subnormal ones
    /// included, in units of the largest; nearest ties to even.
    pub(crate) fn float(exponent: u8, mantissa: u8, norm: Norm, stochastic: bool) -> Self {
        let steps = 1_u32 << mantissa;
        let mut numbers: Vec<f64> = Vec::new();
        for e in 0..1_u32 << exponent {
            for m in 0..steps {
                let (fraction, e) = if e == 0 { (0, 1) } else { (steps, e) };
                numbers.push(f64::from(fraction + m) * 2_f64.powi(e as i32));
            }
        }
        // The formats of eight bits give their last codes to NaN and infinity: e4m3 one, e5m2 four.
        match (exponent, mantissa) {
            (4, 3) => numbers.truncate(127),
            (5, 2) => numbers.truncate(124),
            _ => {}
        }
        let largest = numbers.last().copied().unwrap_or(1.0);
        let magnitudes: Vec<f32> = numbers.iter().map(|n| (n / largest) as f32).collect();
        Self::nearest(Kind::Float, magnitudes, norm, stochastic)
    }

    /// A book that is still to be fitted; until then it is uniform.
    pub(crate) fn fitted(levels: u8, norm: Norm) -> Self {
        let level = |j: u8| f32::from(j) / f32::from(levels);
        let magnitudes = (0..=levels).map(level).collect();
        Self::nearest(Kind::Fitted, magnitudes, norm, true)
    }

    /// Puts these magnitudes between 0 and 1 in the place of the book's own, in the same memory unless another book
    /// shares it. Says whether they ascend strictly and are as many; else the book is of no use.
    pub(crate) fn set_levels(&mut self, inner: impl ExactSizeIterator<Item = f32>) -> bool {
        let magnitudes = Arc::make_mut(&mut self.magnitudes);
        let of_this = inner.len() + 2 == magnitudes.len();
        for (place, magnitude) in magnitudes[1..].iter_mut().zip(inner) {
            *place = magnitude;
        }
        if !(of_this && magnitudes.is_sorted_by(|a, b| a < b)) {
            return false;
        }
        let cuts = Arc::make_mut(&mut self.cuts);
        cuts.iter_mut()
            .zip(middles(magnitudes))
            .for_each(|(place, cut)| *place = cut);
        let looked_up = if self.stochastic { magnitudes } else { cuts };
        self.index.set(looked_up);
        true
    }

    fn nearest(kind: Kind, magnitudes: Vec<f32>, norm: Norm, stochastic: bool) -> Self {
        let cuts = middles(&magnitudes).collect();
        Self::new(kind, magnitudes, cuts, norm, stochastic)
    }

    fn new(kind: Kind, magnitudes: Vec<f32>, cuts: Vec<f32>, norm: Norm, stochastic: bool) -> Self {
        Self {
            index: Index::of(if stochastic { &magnitudes } else { &cuts }),
            kind,
            norm,
            stochastic,
            magnitudes: magnitudes.into(),
            cuts: cuts.into(),
        }
    }

    /// s, the number of non-zero levels a sign.
    pub(crate) fn levels(&self) -> u8 {
        // Invariant: no book has more than 127.
        (self.magnitudes.len() - 1) as u8
    }

    /// The magnitudes between 0 and 1.
    pub(crate) fn inner(&self) -> &[f32] {
        &self.magnitudes[1..self.magnitudes.len() - 1]
    }

    pub(crate) fn alphabet(&self) -> Alphabet {
        Alphabet {
            size: 2 * usize::from(self.levels()) + 1,
            zero: self.levels(),
        }
    }

    /// What the scale of a group is.
    pub(crate) fn norm(&self) -> Norm {
        self.norm
    }

    /// Whether the levels are those of each frame.
    pub(crate) fn is_fitted(&self) -> bool {
        self.kind == Kind::Fitted
    }

    /// Bytes of the levels in a frame.
    pub(crate) fn bytes(&self) -> usize {
        if self.is_fitted() {
            4 * self.inner().len()
        } else {
            0
        }
    }

    /// Appends the levels, if they are not the codec's.
    pub(crate) fn write(&self, frame: &mut Vec<u8>) {
        if self.is_fitted() {
            frame.extend(self.inner().iter().flat_map(|level| level.to_le_bytes()));
        }
    }

    /// Takes the levels off the front of a body, if they are not the codec's.
    pub(crate) fn read(&mut self, body: &mut &[u8]) -> Result<(), DecodeError> {
        let Some((levels, rest)) = body.split_at_checked(self.bytes()) else {
            return Err(DecodeError::Symbols("the book is incomplete"));
        };
        *body = rest;
        let levels = levels.as_chunks::<4>().0.iter();
        if self.is_fitted() && !self.set_levels(levels.map(|bytes| f32::from_le_bytes(*bytes))) {
            return Err(DecodeError::Number("levels that do not ascend from 0 to 1"));
        }
        Ok(())
    }

    /// The scale of a group.
    fn scale(&self, group: &Group<'_>) -> Option<f32> {
        let scale = usable(self.norm.scale(group.simd, group.values, group.largest))?;
        match self.kind {
            Kind::Natural => usable(Scale::of(power_of_two_above(scale))),
            _ => Some(scale),
        }
    }

    pub(super) fn quantize(&self, group: &mut Group<'_>) -> Option<Parameters> {
        let scale = self.scale(group)?;
        let (simd, first, rounding) = (group.simd, group.first, group.rounding);
        let (values, symbols) = (&*group.values, &mut *group.symbols);
        let per_scale = 1.0 / scale;
        if self.stochastic {
            stochastic(simd, per_scale, self, rounding, first, values, symbols);
        } else {
            nearest(simd, per_scale, self, values, symbols);
        }
        Some([scale, 0.0])
    }

    pub(super) fn meaning(&self, scale: f32, values: &mut [f32; 256]) {
        let zero = usize::from(self.levels());
        for (j, magnitude) in self.magnitudes.iter().enumerate() {
            values[zero + j] = magnitude * scale;
            values[zero - j] = -(magnitude * scale);
        }
        values[zero] = 0.0;
    }
}

/// From where on a value is nearer to the upper one of two neighbours.
fn middles(magnitudes: &[f32]) -> impl Iterator<Item = f32> + '_ {
    let middle = |(j, pair): (usize, &[f32])| {
        let middle = ((f64::from(pair[0]) + f64::from(pair[1])) / 2.0) as f32;
        // A tie belongs to the even code.
        if j % 2 == 0 { middle.next_up() } else { middle }
    };
    magnitudes.windows(2).enumerate().map(middle)
}

fn power_of_two_above(x: f32) -> f32 {
    let below = f32::from_bits(x.to_bits() & 0x7f80_0000);
    if below == x { x } else { 2.0 * below }
}

#[inline(always)]
fn signed(value: f32, code: usize, levels: usize) -> u8 {
    (if value < 0.0 {
        levels - code
    } else {
        levels + code
    }) as u8
}

kernel! {
    /// To one of the neighbours among the magnitudes, so that the mean is the value.
    fn stochastic(
        per_scale: f32,
        book: &Book,
        rounding: Rounding,
        first: u32,
        values: &[f32],
        symbols: &mut [u8],
    ) {
        let magnitudes = &book.magnitudes[..];
        let levels = magnitudes.len() - 1;
        for (i, (value, symbol)) in (first..).zip(values.iter().zip(symbols)) {
            let x = (value.abs() * per_scale).min(1.0);
            // Invariant: m₀ = 0 is at most x.
            let below = (book.index.at_most(magnitudes, x) - 1).min(levels - 1);
            let (low, high) = (magnitudes[below], magnitudes[below + 1]);
            let up = (x - low) / (high - low) + rounding.uniform(i) >= 1.0;
            *symbol = signed(*value, below + usize::from(up), levels);
        }
    }
}

kernel! {
    fn nearest(per_scale: f32, book: &Book, values: &[f32], symbols: &mut [u8]) {
        let cuts = &book.cuts[..];
        for (value, symbol) in values.iter().zip(symbols) {
            let code = book.index.at_most(cuts, (value.abs() * per_scale).min(1.0));
            *symbol = signed(*value, code, cuts.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_are_what_their_names_say() {
        let inner = |book: Book| book.inner().to_vec();
        assert_eq!(
            inner(Book::powers(4, true, Norm::L2, true)),
            [0.125, 0.25, 0.5]
        );
        let e2m1 = Book::float(2, 1, Norm::Linf, false);
        assert_eq!(
            e2m1.inner().iter().map(|m| m * 6.0).collect::<Vec<_>>(),
            [0.5, 1.0, 1.5, 2.0, 3.0, 4.0]
        );
        assert_eq!(Book::float(4, 3, Norm::Linf, false).levels(), 126);
        assert_eq!(Book::float(5, 2, Norm::Linf, false).levels(), 123);
        assert_eq!(Book::natural().levels(), 127);
        for book in [
            e2m1,
            Book::natural(),
            Book::powers(9, false, Norm::Linf, false),
        ] {
            assert!(book.magnitudes.is_sorted_by(|a, b| a < b));
            assert!(book.cuts.is_sorted_by(|a, b| a < b));
            assert_eq!(book.cuts.len(), usize::from(book.levels()));
            let between = book.cuts.iter().zip(book.magnitudes.windows(2));
            assert!(
                between
                    .into_iter()
                    .all(|(cut, m)| m[0] < *cut && *cut <= m[1])
            );
        }
    }

    #[test]
    fn the_index_finds_what_counting_finds() {
        for length in [0, 1, 5, 100] {
            let ascending: Vec<f32> = (1..=length).map(|i| i as f32 / length as f32).collect();
            let index = Index::of(&ascending);
            for x in [0.0, 1e-40, 1e-9, 0.2, 0.2_f32.next_down(), 0.5, 0.999, 1.0] {
                let count = ascending.iter().filter(|a| **a <= x).count();
                assert_eq!(index.at_most(&ascending, x), count, "{length} {x}");
            }
        }
    }

    #[test]
    fn levels_that_do_not_ascend_make_no_book() {
        let set = |inner: &[f32]| {
            let mut book = Book::fitted(4, Norm::L2);
            book.set_levels(inner.iter().copied()).then_some(book)
        };
        let book = set(&[0.125, 0.25, 0.5]);
        assert_eq!(book, {
            let powers = Book::powers(4, true, Norm::L2, true);
            let magnitudes = powers.magnitudes.to_vec();
            Some(Book::nearest(Kind::Fitted, magnitudes, Norm::L2, true))
        });
        for inner in [
            &[0.1, 0.2][..],
            &[0.2, 0.1, 0.3],
            &[0.1, 0.2, 1.0],
            &[f32::NAN, 0.2, 0.3],
        ] {
            assert!(set(inner).is_none(), "{inner:?}");
        }
    }
}
