//! The rectifier.

use ndarray::{ArrayView2, ArrayViewMut2, Zip};

/// max(x, 0), in place. A NaN stays one: a diverged model must not look healthy.
pub(crate) fn forward(mut x: ArrayViewMut2<'_, f32>) {
    x.mapv_inplace(|x| if x < 0.0 { 0.0 } else { x });
}

/// ∂L/∂x in place of ∂L/∂y: passed on where the output `y` is above 0; at 0 the derivative is 0.
pub(crate) fn backward(y: ArrayView2<'_, f32>, mut dy: ArrayViewMut2<'_, f32>) {
    Zip::from(&mut dy).and(&y).for_each(|dy, y| {
        if *y <= 0.0 {
            *dy = 0.0;
        }
    });
}

#[cfg(test)]
mod tests {
    use crate::finite_differences;
    use ndarray::{Array2, array};
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn negative_values_and_their_errors_vanish() {
        let mut y = array![[-1.0, 0.0, 2.0, f32::NAN]];
        super::forward(y.view_mut());
        assert_eq!(y.row(0).to_vec()[..3], [0.0, 0.0, 2.0]);
        assert!(y[[0, 3]].is_nan());
        let mut dy = array![[5.0, 6.0, 7.0, 8.0]];
        super::backward(y.view(), dy.view_mut());
        assert_eq!(dy, array![[0.0, 0.0, 7.0, 8.0]]);
    }

    proptest! {
        /// Away from the corner, which a difference over both of its sides cannot see.
        #[test]
        fn errors_agree_with_finite_differences(
            values in vec((prop_oneof![-2.0_f32..-0.1, 0.1_f32..2.0], -1.0_f32..1.0), 1..20),
        ) {
            let (x, dy): (Vec<f32>, Vec<f32>) = values.into_iter().unzip();
            let forward = |x: &[f32]| {
                let mut y = Array2::from_shape_vec((1, x.len()), x.to_vec())
                    .expect("one row of all");
                super::forward(y.view_mut());
                y
            };
            let loss = |x: &[f32]| {
                forward(x).iter().zip(&dy).map(|(y, dy)| f64::from(y * dy)).sum()
            };
            let mut dx = Array2::from_shape_vec((1, x.len()), dy.clone()).expect("one row of all");
            super::backward(forward(&x).view(), dx.view_mut());
            let dx = dx.into_raw_vec_and_offset().0;
            finite_differences::compare(loss, &x, &dx, 0.05)?;
        }
    }
}
