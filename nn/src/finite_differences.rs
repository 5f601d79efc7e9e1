//! The judge of every backward pass: (L(x + ε) − L(x − ε)) / 2ε, one coordinate after another.

use proptest::prop_assert;
use proptest::test_runner::TestCaseError;

/// Compares each element of `exact`, the gradient of `loss` at `point`, with its central difference.
///
/// Values are around 1: rounding costs some 1e-7/ε, curvature ε²/6. The tolerance is above both for
/// steps of 0.01 where the loss is curved and larger ones where it is not.
pub(crate) fn compare(
    loss: impl Fn(&[f32]) -> f64,
    point: &[f32],
    exact: &[f32],
    step: f32,
) -> Result<(), TestCaseError> {
    prop_assert!(point.len() == exact.len());
    let mut moved = point.to_vec();
    for (i, exact) in exact.iter().enumerate() {
        let mut at = |x: f32| {
            moved[i] = x;
            loss(&moved)
        };
        let (above, below) = (point[i] + step, point[i] - step);
        // The points are rounded: divide by their true distance.
        let distance = f64::from(above) - f64::from(below);
        let difference = (at(above) - at(below)) / distance;
        moved[i] = point[i];
        let error = (difference - f64::from(*exact)).abs();
        prop_assert!(
            error < 2e-4,
            "element {i}: {exact}, by differences {difference}"
        );
    }
    Ok(())
}
