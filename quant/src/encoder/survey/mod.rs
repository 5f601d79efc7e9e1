//! What a frame's quantizer takes from its values before it is applied: the levels of a fitted book,
//! or those that a bit budget allows each tensor.

mod allocate;
mod bill;
mod curve;
mod fit;
mod hull;

use super::bucket::Plan;
use crate::norm::{Scale, sum_of_squares};
use crate::quantizer::Quantizer;
use crate::quantizer::book::Book;
use crate::simd::Simd;
use crate::spec::Budget;
use allocate::{Allocator, Class};
pub(super) use curve::{Candidates, Point};
use fit::Fitter;

/// Magnitudes are counted in so many bins.
const BINS: usize = 4096;

/// How the magnitudes of some groups are distributed, in units of their scales.
#[derive(Clone, Debug)]
pub(super) struct Measures {
    /// Values of each bin.
    counts: Vec<u32>,
    /// Σ scale² of the values of each bin: what an error of one scale squared costs there.
    weights: Vec<f64>,
    /// Values that are exactly 0; no bin counts them.
    zeros: u64,
    elements: u64,
    /// The magnitude at the upper end of the last bin, in scales.
    reach: f32,
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            counts: vec![0; BINS],
            weights: vec![0.0; BINS],
            zeros: 0,
            elements: 0,
            reach: 1.0,
        }
    }
}

impl Measures {
    /// As if nothing had been taken in.
    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
        self.weights.fill(0.0);
        (self.zeros, self.elements) = (0, 0);
    }

    /// Takes in a group of finite values.
    pub(super) fn take(&mut self, plan: &Plan, simd: Simd, values: &[f32], largest: f32) {
        self.elements += values.len() as u64;
        let scale = match &plan.frame {
            Quantizer::Uniform(q) => q.norm.scale(simd, values, largest),
            Quantizer::Book(q) => q.norm().scale(simd, values, largest),
            _ => {
                self.reach = curve::DEAD_ZONE_REACH;
                let mean = sum_of_squares(simd, values) / values.len() as f64;
                Scale::of(mean.sqrt() as f32)
            }
        };
        let Scale::Normal(scale) = scale else {
            self.zeros += values.len() as u64;
            return;
        };
        let per_bin = BINS as f32 / self.reach / scale;
        let weight = f64::from(scale) * f64::from(scale);
        for value in values {
            if *value == 0.0 {
                self.zeros += 1;
                continue;
            }
            let bin = ((value.abs() * per_bin) as usize).min(BINS - 1);
            self.counts[bin] += 1;
            self.weights[bin] += weight;
        }
    }

    /// The bins that hold something: magnitude in their middle, count, weight.
    fn bins(&self) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        let width = f64::from(self.reach) / BINS as f64;
        let bins = self.counts.iter().zip(&self.weights).enumerate();
        bins.filter(|(_, (count, _))| **count > 0)
            .map(move |(bin, (count, weight))| {
                ((bin as f64 + 0.5) * width, f64::from(*count), *weight)
            })
    }
}

/// What a fitted book is made with, kept from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Fit {
    measures: Measures,
    fitter: Fitter,
    /// The last one, whose memory is used again.
    book: Option<Book>,
}

impl Fit {
    /// The codec's book with levels that are fitted to what `take` takes in.
    pub(super) fn fit(&mut self, codec: &Book, take: impl FnOnce(&mut Measures)) -> Book {
        self.measures.clear();
        take(&mut self.measures);
        let levels = self.fitter.levels(codec.inner().len(), &self.measures);
        let book = self.book.get_or_insert_with(|| codec.clone());
        // Invariant: they ascend.
        book.set_levels(levels);
        book.clone()
    }
}

/// Of a bucket's elements a tensor has at least so many, one in [`SMALL_SHARE`] and [`SMALL`], or it
/// shares its choice with all others that do not. This bounds time and memory, whatever the layout is.
const SMALL_SHARE: usize = 512;
const SMALL: usize = 64;

/// What a budget knows of a bucket.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    allocator: Allocator,
    /// The class of each part.
    classes: Vec<usize>,
}

/// A survey under way, part by part.
pub(super) struct Surveyor {
    survey: Survey,
    elements: usize,
    /// The part under way.
    own: Measures,
    /// All small parts.
    small: Option<Measures>,
}

impl Surveyor {
    /// Of a bucket with so many elements.
    pub(super) fn new(quantizer: &Quantizer, elements: usize) -> Self {
        Self {
            survey: Survey {
                allocator: Allocator {
                    candidates: Candidates::of(quantizer),
                    classes: Vec::new(),
                },
                classes: Vec::new(),
            },
            elements,
            own: Measures::default(),
            small: None,
        }
    }

    /// Takes in the next part, which has so many elements; `take` takes in its groups.
    pub(super) fn part(&mut self, elements: usize, take: impl FnOnce(&mut Measures)) {
        let Survey { allocator, classes } = &mut self.survey;
        if elements < SMALL.max(self.elements / SMALL_SHARE) {
            take(self.small.get_or_insert_default());
            classes.push(usize::MAX);
        } else {
            self.own.clear();
            take(&mut self.own);
            classes.push(allocator.classes.len());
            allocator.add(&self.own);
        }
    }

    /// All that was taken in.
    pub(super) fn finish(mut self) -> Survey {
        let Survey { allocator, classes } = &mut self.survey;
        if let Some(small) = self.small {
            let class = allocator.classes.len();
            classes
                .iter_mut()
                .filter(|own| **own == usize::MAX)
                .for_each(|own| *own = class);
            allocator.add(&small);
        }
        self.survey
    }
}

impl Allocator {
    fn add(&mut self, measured: &Measures) {
        self.classes.push(Class {
            elements: measured.elements,
            curve: curve::curve(self.candidates, measured),
        });
    }
}

impl Survey {
    pub(super) fn candidates(&self) -> Candidates {
        self.allocator.candidates
    }

    /// Whether parts can differ at all.
    pub(super) fn is_mixed(&self) -> bool {
        self.allocator.classes.len() > 1
    }

    /// The finest candidate that all can have with so many bits for symbols, else the coarsest.
    pub(super) fn same(&self, bits: f64) -> u8 {
        self.allocator.same(bits)
    }

    /// A candidate for each part.
    pub(super) fn mixed(&self, bits: f64) -> Vec<u8> {
        let chosen = self.allocator.mixed(bits);
        self.classes.iter().map(|class| chosen[*class]).collect()
    }

    /// What is expected of one candidate for all.
    pub(super) fn cost_of_same(&self, index: u8) -> Point {
        self.allocator.cost(|_| index)
    }

    /// Bits of symbols that are expected where the parts have these candidates, each finer by `more`.
    pub(super) fn bits(&self, chosen: &[u8], more: u8) -> f64 {
        let mut of_class = vec![0; self.allocator.classes.len()];
        for (class, index) in self.classes.iter().zip(chosen) {
            of_class[*class] = (index + more).min(self.candidates().count() - 1);
        }
        self.allocator.cost(|class| of_class[class]).bits
    }
}

/// The finest candidate for a tensor with a budget of its own.
pub(super) fn alone(
    candidates: Candidates,
    budget: &Budget,
    tensor: usize,
    groups: usize,
    measured: &Measures,
) -> u8 {
    let elements = measured.elements;
    let bits = budget.bits(tensor) * elements as f64;
    let price = |index: u8, point: &Point| {
        let stream = allocate::stream(candidates.symbols(index), point.bits, elements);
        32.0 * groups as f64 + stream + point.extra
    };
    let curve = curve::curve(candidates, measured);
    let fits = |(index, point): &(u8, &Point)| price(*index, point) <= bits;
    let finest = (0..candidates.count()).zip(&curve).rev().find(fits);
    finest.map_or(0, |(index, _)| index)
}
