//! The cross-entropy of a softmax, and the score of a model.

use std::ops::AddAssign;

use ndarray::{ArrayViewMut2, Axis};

/// Loss and hits over some samples; those of several batches add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// The loss summed over the samples.
    pub sum: f64,
    /// Samples whose class had the largest score.
    pub correct: u64,
    /// Number of samples.
    pub samples: u64,
}

impl Loss {
    /// Mean loss a sample; 0 where there are none.
    pub fn mean(&self) -> f64 {
        self.sum / self.samples.max(1) as f64
    }

    /// Share of samples whose class was predicted, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples.max(1) as f64
    }
}

impl AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.sum += other.sum;
        self.correct += other.correct;
        self.samples += other.samples;
    }
}

/// −log softmax(z)_label for each row z of `scores`. The rows are overwritten with the gradient of
/// the *mean* loss: (softmax(z) − e_label)/samples.
///
/// The largest score is subtracted first, so that no exponential overflows.
pub(crate) fn cross_entropy(mut scores: ArrayViewMut2<'_, f32>, labels: &[u8]) -> Loss {
    let samples = labels.len();
    let mut loss = Loss {
        samples: samples as u64,
        ..Loss::default()
    };
    for (mut row, label) in scores.axis_iter_mut(Axis(0)).zip(labels) {
        let label = usize::from(*label);
        // Nothing is predicted where no score is a number.
        let (mut best, mut largest) = (None, f32::NEG_INFINITY);
        for (class, score) in row.iter().enumerate() {
            if *score > largest {
                (best, largest) = (Some(class), *score);
            }
        }
        // The difference of single precision may be too large for it.
        let at_label = f64::from(row[label]) - f64::from(largest);
        row.mapv_inplace(|score| (score - largest).exp());
        let total: f32 = row.iter().sum();
        loss.sum += f64::from(total.ln()) - at_label;
        loss.correct += u64::from(best == Some(label));
        let share = 1.0 / (total * samples as f32);
        row.mapv_inplace(|exponential| exponential * share);
        row[label] -= 1.0 / samples as f32;
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_differences;
    use ndarray::{Array2, array};
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        let mut scores = array![[0.0, 0.0], [1.0, 3.0_f32.ln() + 1.0]];
        let loss = cross_entropy(scores.view_mut(), &[0, 1]);
        let expected = 2.0_f64.ln() + (4.0_f64 / 3.0).ln();
        assert!((loss.sum - expected).abs() < 1e-6, "{}", loss.sum);
        assert_eq!((loss.correct, loss.samples), (2, 2));
        let expected = array![[-0.25, 0.25], [0.125, -0.125]];
        let largest = (&scores - &expected)
            .iter()
            .fold(0.0_f32, |a, d| a.max(d.abs()));
        assert!(largest < 1e-6, "{scores}");
    }

    #[test]
    fn scores_of_any_size_stay_finite() {
        let mut scores = array![[1e30, -1e30], [-3e38, 3e38]];
        let loss = cross_entropy(scores.view_mut(), &[0, 0]);
        assert_eq!(loss.correct, 1);
        assert!((loss.sum / 6e38 - 1.0).abs() < 1e-6, "{}", loss.sum);
        assert!(scores.iter().all(|g| g.is_finite()));
    }

    #[test]
    fn a_score_that_is_not_a_number_shows_in_the_loss() {
        let mut scores = array![[f32::NAN, 0.0], [f32::NAN, f32::NAN]];
        let loss = cross_entropy(scores.view_mut(), &[1, 0]);
        assert!(loss.sum.is_nan());
        assert_eq!(loss.correct, 1, "nothing is predicted without a number");
    }
    proptest! {
        #[test]
        fn the_gradient_agrees_with_finite_differences(
            (classes, scores) in (2_usize..6).prop_flat_map(|classes| {
                let row = vec(-3.0_f32..3.0, classes);
                (Just(classes), vec(row, 1..5).prop_map(|rows| rows.concat()))
            }),
            label: u8,
        ) {
            let samples = scores.len() / classes;
            let labels: Vec<u8> = (0..samples).map(|i| label.wrapping_add(i as u8) % classes as u8).collect();
            let at = |scores: &[f32]| {
                let mut scores = Array2::from_shape_vec((samples, classes), scores.to_vec())
                    .expect("rows of one length");
                let loss = cross_entropy(scores.view_mut(), &labels);
                (loss.mean(), scores.into_raw_vec_and_offset().0)
            };
            let exact = at(&scores).1;
            finite_differences::compare(|scores| at(scores).0, &scores, &exact, 1e-2)?;
        }
    }
}
