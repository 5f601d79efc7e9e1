//! How wrong the scores of a model are, and what that means for each of them.

use std::ops::AddAssign;

use ndarray::{ArrayViewMut2, Axis};

use crate::batch::Targets;

/// Loss and hits over some samples; those of several batches add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// The loss summed over the samples; a sequence's is the mean over its positions.
    pub sum: f64,
    /// Samples whose class was predicted, of a sequence the share of its positions. Not a number where
    /// there are no classes.
    pub correct: f64,
    /// Number of samples.
    pub samples: u64,
}

impl Loss {
    /// Mean loss a sample; 0 where there are none.
    pub fn mean(&self) -> f64 {
        self.sum / self.samples.max(1) as f64
    }

    /// Share of classes that were predicted, 0 to 1; not a number where there are no classes.
    pub fn accuracy(&self) -> f64 {
        self.correct / self.samples.max(1) as f64
    }
}

impl AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.sum += other.sum;
        self.correct += other.correct;
        self.samples += other.samples;
    }
}

/// The loss of `scores`, which are overwritten with the gradient of its *mean*. A row of scores belongs
/// to each target; a sample has one target, a sequence one for each position.
///
/// Classes are judged by [`cross_entropy`], or by [`logistic`] if there is a single score; values by
/// [`squared`].
pub(crate) fn of(scores: ArrayViewMut2<'_, f32>, targets: &Targets, samples: usize) -> Loss {
    let loss = match targets {
        Targets::Classes(classes) if scores.ncols() == 1 => logistic(scores, classes),
        Targets::Classes(classes) => cross_entropy(scores, classes),
        Targets::Values(values) => squared(scores, values),
    };
    let targets_per_sample = loss.samples as f64 / samples.max(1) as f64;
    Loss {
        sum: loss.sum / targets_per_sample.max(1.0),
        correct: loss.correct / targets_per_sample.max(1.0),
        samples: samples as u64,
    }
}

/// ½(z − y)² for each value y and the one score z in its row. The scores are overwritten with the
/// gradient of the *mean* loss: (z − y)/samples.
pub(crate) fn squared(mut scores: ArrayViewMut2<'_, f32>, values: &[f32]) -> Loss {
    assert_eq!(scores.dim(), (values.len(), 1), "a score for each value");
    let mut sum = 0.0;
    for (score, value) in scores.iter_mut().zip(values) {
        let error = *score - *value;
        sum += 0.5 * f64::from(error).powi(2);
        *score = error / values.len() as f32;
    }
    Loss {
        sum,
        correct: f64::NAN,
        samples: values.len() as u64,
    }
}

/// log(1 + e^(−yz)) for each class and the one score z in its row, where y is −1 for class 0 and 1 for
/// class 1. The scores are overwritten with the gradient of the *mean* loss: −y/(1 + e^(yz))/samples.
///
/// The class is predicted if yz > 0. No exponential overflows.
pub(crate) fn logistic(mut scores: ArrayViewMut2<'_, f32>, classes: &[u32]) -> Loss {
    assert_eq!(scores.dim(), (classes.len(), 1), "a score for each class");
    let mut loss = Loss {
        samples: classes.len() as u64,
        ..Loss::default()
    };
    for (score, class) in scores.iter_mut().zip(classes) {
        assert!(*class < 2, "there are two classes");
        let sign = if *class == 1 { 1.0 } else { -1.0 };
        let margin = sign * *score;
        let small = (-margin.abs()).exp();
        // log(1 + e^(−m)) is log(1 + e^(−|m|)), and |m| more below 0.
        loss.sum += f64::from(small.ln_1p()) + f64::from((-margin).max(0.0));
        if margin.is_nan() {
            loss.sum = f64::NAN;
        }
        loss.correct += f64::from(u8::from(margin > 0.0));
        let wrong = if margin > 0.0 { small } else { 1.0 } / (1.0 + small);
        *score = -sign * wrong / classes.len() as f32;
    }
    loss
}

/// −log softmax(z)_label for each row z of `scores`. The rows are overwritten with the gradient of
/// the *mean* loss: (softmax(z) − e_label)/samples.
///
/// The largest score is subtracted first, so that no exponential overflows.
pub(crate) fn cross_entropy(mut scores: ArrayViewMut2<'_, f32>, labels: &[u32]) -> Loss {
    let samples = labels.len();
    let mut loss = Loss {
        samples: samples as u64,
        ..Loss::default()
    };
    for (mut row, label) in scores.axis_iter_mut(Axis(0)).zip(labels) {
        let label = *label as usize;
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
        loss.correct += f64::from(u8::from(best == Some(label)));
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
        assert_eq!((loss.correct, loss.samples), (2.0, 2));
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
        assert_eq!(loss.correct, 1.0);
        assert!((loss.sum / 6e38 - 1.0).abs() < 1e-6, "{}", loss.sum);
        assert!(scores.iter().all(|g| g.is_finite()));
    }

    #[test]
    fn a_score_that_is_not_a_number_shows_in_the_loss() {
        let mut scores = array![[f32::NAN, 0.0], [f32::NAN, f32::NAN]];
        let loss = cross_entropy(scores.view_mut(), &[1, 0]);
        assert!(loss.sum.is_nan());
        assert_eq!(loss.correct, 1.0, "nothing is predicted without a number");
    }

    #[test]
    fn one_score_by_hand() {
        let mut scores = array![[3.0], [-1.0]];
        let loss = squared(scores.view_mut(), &[1.0, -1.5]);
        assert_eq!((loss.sum, loss.samples), (2.125, 2));
        assert!(loss.accuracy().is_nan());
        assert_eq!(scores, array![[1.0], [0.25]]);

        let mut scores = array![[0.0], [3.0_f32.ln()], [1e30], [-1e30]];
        let loss = logistic(scores.view_mut(), &[1, 0, 0, 0]);
        assert!((loss.sum / 1e30 - 1.0).abs() < 1e-6, "{}", loss.sum);
        assert_eq!(loss.correct, 1.0);
        let expected = array![[-0.125], [0.1875], [0.25], [0.0]];
        let largest = (&scores - &expected)
            .iter()
            .fold(0.0_f32, |a, d| a.max(d.abs()));
        assert!(largest < 1e-7, "{scores}");
        let loss = logistic(array![[f32::NAN]].view_mut(), &[1]);
        assert!(loss.sum.is_nan() && loss.correct == 0.0);
    }

    #[test]
    fn a_sequence_counts_as_a_sample() {
        let scores = array![[0.0, 2.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]];
        let targets = Targets::Classes(vec![1, 0, 0, 1]);
        let (mut a, mut b) = (scores.clone(), scores);
        let sequences = of(a.view_mut(), &targets, 2);
        let single = of(b.view_mut(), &targets, 4);
        assert_eq!((sequences.samples, single.samples), (2, 4));
        assert_eq!(sequences.mean(), single.mean());
        assert_eq!((sequences.correct, single.accuracy()), (1.0, 0.5));
        assert_eq!(a, b, "the gradient is that of the mean over all positions");
    }

    proptest! {
        #[test]
        fn gradients_of_one_score_agree_with_finite_differences(
            samples in vec((-3.0_f32..3.0, -3.0_f32..3.0, 0_u32..2), 1..6),
        ) {
            let column = |scores: &[f32]| {
                Array2::from_shape_vec((scores.len(), 1), scores.to_vec()).expect("one column")
            };
            let scores: Vec<f32> = samples.iter().map(|sample| sample.0).collect();
            let values: Vec<f32> = samples.iter().map(|sample| sample.1).collect();
            let classes: Vec<u32> = samples.iter().map(|sample| sample.2).collect();
            for targets in [Targets::Values(values), Targets::Classes(classes)] {
                let at = |scores: &[f32]| {
                    let mut scores = column(scores);
                    let loss = of(scores.view_mut(), &targets, targets.len());
                    (loss.mean(), scores.into_raw_vec_and_offset().0)
                };
                let exact = at(&scores).1;
                finite_differences::compare(|scores| at(scores).0, &scores, &exact, 1e-2)?;
            }
        }

        #[test]
        fn the_gradient_agrees_with_finite_differences(
            (classes, scores) in (2_usize..6).prop_flat_map(|classes| {
                let row = vec(-3.0_f32..3.0, classes);
                (Just(classes), vec(row, 1..5).prop_map(|rows| rows.concat()))
            }),
            label: u8,
        ) {
            let samples = scores.len() / classes;
            let label = |i: usize| (usize::from(label) + i) % classes;
            let labels: Vec<u32> = (0..samples).map(|i| label(i) as u32).collect();
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
