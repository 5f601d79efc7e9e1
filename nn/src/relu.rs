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
    use ndarray::array;

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
}
