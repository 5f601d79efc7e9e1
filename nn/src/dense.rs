//! A fully connected layer.

use std::ops::Range;

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2, Axis};

use crate::matmul::matmul;

/// y = x·Wᵀ + b with W of shape [outputs, inputs], as PyTorch's `nn.Linear`. The weights stand in the
/// flat parameter vector row by row, the bias after them.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    weight: Range<usize>,
    bias: Range<usize>,
}

impl Dense {
    /// A layer whose parameters begin at `start` of the flat vector.
    pub(crate) fn new(inputs: usize, outputs: usize, start: usize) -> Self {
        let middle = start + inputs * outputs;
        Self {
            inputs,
            outputs,
            weight: start..middle,
            bias: middle..middle + outputs,
        }
    }

    /// Where the layer's parameters end.
    pub(crate) fn end(&self) -> usize {
        self.bias.end
    }

    fn weight<'a>(&self, parameters: &'a [f32]) -> ArrayView2<'a, f32> {
        ArrayView2::from_shape(
            (self.outputs, self.inputs),
            &parameters[self.weight.clone()],
        )
        .expect("the range was made for this shape")
    }

    /// `y` from `x`, both one row a sample.
    pub(crate) fn forward(
        &self,
        parameters: &[f32],
        x: ArrayView2<'_, f32>,
        mut y: ArrayViewMut2<'_, f32>,
    ) {
        y.assign(&ArrayView1::from(&parameters[self.bias.clone()]));
        matmul(x, self.weight(parameters).t(), 1.0, y);
    }

    /// Overwrites the layer's part of `gradient`, given ∂L/∂y.
    pub(crate) fn backward_parameters(
        &self,
        x: ArrayView2<'_, f32>,
        dy: ArrayView2<'_, f32>,
        gradient: &mut [f32],
    ) {
        let weight = ArrayViewMut2::from_shape(
            (self.outputs, self.inputs),
            &mut gradient[self.weight.clone()],
        )
        .expect("the range was made for this shape");
        matmul(dy.t(), x, 0.0, weight);
        let bias = &mut gradient[self.bias.clone()];
        bias.fill(0.0);
        for row in dy.axis_iter(Axis(0)) {
            for (sum, value) in bias.iter_mut().zip(row) {
                *sum += *value;
            }
        }
    }

    /// ∂L/∂x from ∂L/∂y.
    pub(crate) fn backward_input(
        &self,
        parameters: &[f32],
        dy: ArrayView2<'_, f32>,
        dx: ArrayViewMut2<'_, f32>,
    ) {
        matmul(dy, self.weight(parameters), 0.0, dx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_differences;
    use ndarray::{Array2, array};
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn a_small_layer_by_hand() {
        let layer = Dense::new(2, 3, 1);
        let parameters = [9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.1, 0.2, 0.3];
        assert_eq!(layer.end(), parameters.len());
        let x = array![[1.0, -1.0]];
        let mut y = Array2::zeros((1, 3));
        layer.forward(&parameters, x.view(), y.view_mut());
        assert_eq!(
            y,
            array![[1.0 - 2.0 + 0.1, 3.0 - 4.0 + 0.2, 5.0 - 6.0 + 0.3]]
        );
        let dy = array![[1.0, 0.0, -2.0]];
        let mut gradient = [7.0; 10];
        layer.backward_parameters(x.view(), dy.view(), &mut gradient);
        assert_eq!(
            gradient,
            [7.0, 1.0, -1.0, 0.0, 0.0, -2.0, 2.0, 1.0, 0.0, -2.0]
        );
        let mut dx = Array2::zeros((1, 2));
        layer.backward_input(&parameters, dy.view(), dx.view_mut());
        assert_eq!(dx, array![[1.0 - 10.0, 2.0 - 12.0]]);
    }

    /// Samples, inputs and outputs, then parameters, x and ∂L/∂y of these shapes.
    type Case = ([usize; 3], Vec<f32>, Vec<f32>, Vec<f32>);

    fn cases() -> impl Strategy<Value = Case> {
        (1_usize..5, 1_usize..12, 1_usize..12).prop_flat_map(|(samples, inputs, outputs)| {
            let values = |count| vec(-1.0_f32..1.0, count);
            (
                Just([samples, inputs, outputs]),
                values(outputs * (inputs + 1)),
                values(samples * inputs),
                values(samples * outputs),
            )
        })
    }

    proptest! {
        /// L = Σ y ∘ ∂L/∂y is linear in the parameters and in x, so that the step may be large.
        #[test]
        fn gradients_agree_with_finite_differences(
            ([samples, inputs, outputs], parameters, x, dy) in cases(),
        ) {
            let layer = Dense::new(inputs, outputs, 0);
            let shaped = |values: &[f32], columns| {
                Array2::from_shape_vec((samples, columns), values.to_vec())
                    .expect("it was drawn in this shape")
            };
            let dy = shaped(&dy, outputs);
            let loss = |parameters: &[f32], x: &[f32]| {
                let mut y = Array2::from_elem((samples, outputs), f32::NAN);
                layer.forward(parameters, shaped(x, inputs).view(), y.view_mut());
                (&y * &dy).iter().map(|term| f64::from(*term)).sum::<f64>()
            };
            let mut gradient = vec![f32::NAN; parameters.len()];
            layer.backward_parameters(shaped(&x, inputs).view(), dy.view(), &mut gradient);
            finite_differences::compare(|w| loss(w, &x), &parameters, &gradient, 0.5)?;
            let mut dx = Array2::from_elem((samples, inputs), f32::NAN);
            layer.backward_input(&parameters, dy.view(), dx.view_mut());
            let dx = dx.into_raw_vec_and_offset().0;
            finite_differences::compare(|x| loss(&parameters, x), &x, &dx, 0.5)?;
        }
    }
}
