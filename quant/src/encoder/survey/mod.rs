//! What a frame's quantizer takes from its values before it is applied: the levels of a fitted book,
//! or those that a bit budget allows each tensor.

mod allocate;
mod fit;

use super::bucket::Plan;
use crate::norm::{Scale, sum_of_squares};
use crate::quantizer::Quantizer;
use crate::simd::Simd;
use allocate::Choice;

/// Magnitudes are counted in so many bins.
const BINS: usize = 4096;

/// How the magnitudes of a part are distributed, in units of their groups' scales.
#[derive(Clone, Debug)]
pub(super) struct Measures {
    /// Values of each bin.
    counts: Vec<u32>,
    /// Σ scale² of the values of each bin: what an error of one scale squared costs there.
    weights: Vec<f64>,
    /// Values that are exactly 0; no bin counts them.
    zeros: u64,
    elements: u64,
    groups: u64,
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
            groups: 0,
            reach: 1.0,
        }
    }
}

impl Measures {
    /// Takes in a group of finite values.
    pub(super) fn take(&mut self, plan: &Plan<'_>, simd: Simd, values: &[f32], largest: f32) {
        self.elements += values.len() as u64;
        self.groups += 1;
        let scale = match &plan.frame {
            Quantizer::Uniform(q) => q.norm.scale(simd, values, largest),
            Quantizer::Book(q) => q.norm().scale(simd, values, largest),
            _ => {
                self.reach = allocate::DEAD_ZONE_REACH;
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

/// Whether the plan depends on the values.
pub(super) fn is_needed(plan: &Plan<'_>) -> bool {
    let fitted = matches!(&plan.frame, Quantizer::Book(book) if book.is_fitted());
    fitted || plan.budget.is_some()
}

/// Completes the plan. `tensors` are those to which the parts belong.
pub(super) fn decide(plan: &mut Plan<'_>, tensors: &[usize], measured: &[Measures]) {
    if let Quantizer::Book(book) = &plan.frame {
        if let Some(fitted) = book.with_levels(&fit::levels(book.inner().len(), measured)) {
            plan.frame = Quantizer::Book(fitted);
        }
        return;
    }
    let Some(budget) = plan.budget else {
        return;
    };
    let choices = allocate::allocate(&plan.frame, budget, tensors, measured);
    let apply = |quantizer: &Quantizer, choice: &Choice| match (quantizer, choice) {
        (Quantizer::Uniform(q), Choice::Levels(levels)) => {
            let mut q = q.clone();
            q.levels = *levels;
            Quantizer::Uniform(q)
        }
        (Quantizer::DeadZone(q), Choice::Step(step)) => {
            let mut q = q.clone();
            q.step = *step;
            Quantizer::DeadZone(q)
        }
        (other, _) => other.clone(),
    };
    plan.parts = choices
        .iter()
        .map(|choice| apply(&plan.frame, choice))
        .collect();
}
