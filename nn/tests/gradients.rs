//! Whole models against finite differences.

use ecq_nn::{Batch, ModelName};
use ndarray::Array2;
use proptest::prelude::*;

fn batch(samples: usize, features: usize, classes: usize, seed: u32) -> Batch {
    let draw = |i: usize| {
        let mut x = (i as u32).wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b);
        x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
        x ^ x >> 16
    };
    let value = |i: usize| draw(i) as f32 / u32::MAX as f32 * 2.0 - 1.0;
    let inputs = (0..samples * features).map(value).collect();
    Batch {
        inputs: Array2::from_shape_vec((samples, features), inputs).expect("it has that shape"),
        labels: (0..samples)
            .map(|i| (draw(i + 77) as usize % classes) as u8)
            .collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Central differences along random directions: g·d against (L(w + εd) − L(w − εd))/2ε.
    #[test]
    fn the_gradient_is_that_of_the_mean_loss(
        samples in 1usize..7,
        features in 1usize..6,
        classes in 2usize..5,
        hidden in proptest::collection::vec(1usize..6, 0..3),
        seed in 0u32..1000,
    ) {
        let mut model = ModelName::Mlp.build(&hidden, features, classes);
        let batch = batch(samples, features, classes, seed);
        let parameters = model.initialise(u64::from(seed));
        let mut gradient = vec![f32::NAN; parameters.len()];
        let loss = model.loss_and_gradient(&parameters, &batch, &mut gradient);
        prop_assert_eq!(loss.samples, samples as u64);
        let evaluated = model.evaluate(&parameters, &batch);
        prop_assert_eq!(loss, evaluated);
        // A rectifier has no derivative at its corner: the median of several directions is immune
        // to the few that cross one.
        let mut errors: Vec<f64> = (0..9u64)
            .map(|k| {
                let direction = model.initialise(1_000_000 + k);
                let at = |sign: f32, model: &mut dyn ecq_nn::Model| {
                    let moved: Vec<f32> =
                        parameters.iter().zip(&direction).map(|(w, d)| w + sign * 1e-2 * d).collect();
                    model.evaluate(&moved, &batch).mean()
                };
                let numeric = (at(1.0, &mut *model) - at(-1.0, &mut *model)) / 2e-2;
                let exact: f64 =
                    gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g * *d)).sum();
                (numeric - exact).abs()
            })
            .collect();
        errors.sort_by(f64::total_cmp);
        prop_assert!(errors[4] < 2e-3, "{:?}", errors);
    }
}

#[test]
fn names_and_shapes_are_those_of_pytorch() {
    let model = ModelName::Mlp.build(&[256, 128], 784, 10);
    let tensors: Vec<_> = model
        .tensors()
        .iter()
        .map(|t| (t.name.as_str(), t.shape.as_slice()))
        .collect();
    let expected: [(&str, &[usize]); 6] = [
        ("fc1.weight", &[256, 784]),
        ("fc1.bias", &[256]),
        ("fc2.weight", &[128, 256]),
        ("fc2.bias", &[128]),
        ("fc3.weight", &[10, 128]),
        ("fc3.bias", &[10]),
    ];
    assert_eq!(tensors, expected);
    assert_eq!(model.parameters(), 235_146);
    assert_eq!(ModelName::Softmax.build(&[256], 64, 10).parameters(), 650);
}
