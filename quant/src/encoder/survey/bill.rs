//! What a choice costs, and what it would with one class changed.

use super::allocate::{Allocator, Class, stream};
use super::curve::Point;

/// The cost of one choice, from which that of its neighbours follows quickly.
pub(super) struct Bill<'a> {
    allocator: &'a Allocator,
    /// By candidate: bits, elements, classes.
    streams: Vec<(f64, u64, u32)>,
    /// Of all streams, as if there were several.
    bits: f64,
    used: usize,
    extra: f64,
    error: f64,
}

impl<'a> Bill<'a> {
    pub(super) fn new(allocator: &'a Allocator, chosen: &[u8]) -> Self {
        let mut bill = Self {
            allocator,
            streams: vec![(0.0, 0, 0); allocator.candidates.count().into()],
            bits: 0.0,
            used: 0,
            extra: 0.0,
            error: 0.0,
        };
        for (class, index) in allocator.classes.iter().zip(chosen) {
            let point = class.curve[usize::from(*index)];
            let stream = &mut bill.streams[usize::from(*index)];
            *stream = (
                stream.0 + point.bits,
                stream.1 + class.elements,
                stream.2 + 1,
            );
            bill.error += point.error;
            bill.extra += point.extra;
        }
        for index in 0..allocator.candidates.count() {
            bill.bits += bill.price(index, bill.streams[usize::from(index)]);
            bill.used += usize::from(bill.streams[usize::from(index)].2 > 0);
        }
        bill
    }

    fn price(&self, index: u8, (bits, elements, classes): (f64, u64, u32)) -> f64 {
        match classes {
            0 => 0.0,
            _ => stream(self.allocator.candidates.symbols(index), bits, elements) + 64.0,
        }
    }

    /// Both streams once a class has changed from one to the other.
    fn changed(&self, class: usize, from: u8, to: u8) -> [(f64, u64, u32); 2] {
        let Class { elements, curve } = &self.allocator.classes[class];
        let (left, joined) = (
            self.streams[usize::from(from)],
            self.streams[usize::from(to)],
        );
        let bits = |index: u8| curve[usize::from(index)].bits;
        [
            (left.0 - bits(from), left.1 - elements, left.2 - 1),
            (joined.0 + bits(to), joined.1 + elements, joined.2 + 1),
        ]
    }

    pub(super) fn total(&self) -> Point {
        self.point(self.bits, self.used, self.extra, self.error)
    }

    fn point(&self, bits: f64, used: usize, extra: f64, error: f64) -> Point {
        let places = match used {
            0 | 1 => -64.0 * used as f64,
            _ => 16.0 * self.allocator.classes.len() as f64,
        };
        Point {
            bits: bits + places + extra,
            extra,
            error,
        }
    }

    /// The cost if a class had another candidate.
    pub(super) fn with(&self, class: usize, from: u8, to: u8) -> Point {
        let [left, joined] = self.changed(class, from, to);
        let before = self.price(from, self.streams[usize::from(from)])
            + self.price(to, self.streams[usize::from(to)]);
        let after = self.price(from, left) + self.price(to, joined);
        let used = self.used + usize::from(joined.2 == 1) - usize::from(left.2 == 0);
        let curve = &self.allocator.classes[class].curve;
        let (old, new) = (curve[usize::from(from)], curve[usize::from(to)]);
        self.point(
            self.bits - before + after,
            used,
            self.extra - old.extra + new.extra,
            self.error - old.error + new.error,
        )
    }

    pub(super) fn change(&mut self, class: usize, from: u8, to: u8) {
        let [left, joined] = self.changed(class, from, to);
        self.bits -= self.price(from, self.streams[usize::from(from)])
            + self.price(to, self.streams[usize::from(to)]);
        self.used = self.used + usize::from(joined.2 == 1) - usize::from(left.2 == 0);
        (
            self.streams[usize::from(from)],
            self.streams[usize::from(to)],
        ) = (left, joined);
        self.bits += self.price(from, left) + self.price(to, joined);
        let curve = &self.allocator.classes[class].curve;
        let (old, new) = (curve[usize::from(from)], curve[usize::from(to)]);
        self.extra += new.extra - old.extra;
        self.error += new.error - old.error;
    }
}

#[cfg(test)]
mod tests {
    use super::super::allocate::tests::allocator;
    use super::*;

    /// What follows from a bill is what is computed from all of the choice.
    #[test]
    fn a_bill_agrees_with_the_cost_of_the_choice() {
        let allocator = allocator(&[(30_000, 1.0), (3_000, 4.0), (3_000, 9.0), (500, 16.0)]);
        let mut chosen = [4_u8, 4, 4, 4];
        let mut bill = Bill::new(&allocator, &chosen);
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs();
        for i in 0..200_usize {
            let (class, to) = (i * 7 % 4, (i * i * 5 % 11) as u8);
            if to == chosen[class] {
                continue;
            }
            let expected = bill.with(class, chosen[class], to);
            bill.change(class, chosen[class], to);
            chosen[class] = to;
            let cost = allocator.cost(|class| chosen[class]);
            for found in [expected, bill.total()] {
                assert!(near(found.bits, cost.bits), "{found:?} {cost:?}");
                assert!(near(found.error, cost.error), "{found:?} {cost:?}");
            }
        }
    }
}
