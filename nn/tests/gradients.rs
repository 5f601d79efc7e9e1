//! Whole models against finite differences.

use ecq_nn::data::{Shape, Task};
use ecq_nn::{Batch, Inputs, Model, ModelName, Targets};
use ndarray::Array2;

fn batch(samples: usize, features: usize, classes: usize, seed: u32) -> Batch {
    let draw = |i: usize| {
        let mut x = (i as u32).wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b);
        x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
        x ^ x >> 16
    };
    let value = |i: usize| draw(i) as f32 / u32::MAX as f32 * 2.0 - 1.0;
    let inputs = (0..samples * features).map(value).collect();
    Batch {
        inputs: Inputs::Dense(
            Array2::from_shape_vec((samples, features), inputs).expect("it has that shape"),
        ),
        targets: Targets::Classes(
            (0..samples)
                .map(|i| draw(i + 77) % classes as u32)
                .collect(),
        ),
    }
}

fn build(name: ModelName, hidden: &[usize], features: usize, classes: usize) -> Box<dyn Model> {
    name.build(hidden, Shape::Flat(features), Task::Classes(classes))
        .expect("it takes dense rows")
}

/// g·d against the central difference (L(w + εd) − L(w − εd))/2ε along one random direction d.
fn error(shape: [usize; 3], hidden: &[usize], seed: u32) -> f64 {
    const EPSILON: f32 = 2e-3;
    let [samples, features, classes] = shape;
    let mut model = build(ModelName::Mlp, hidden, features, classes);
    let batch = batch(samples, features, classes, seed);
    let parameters = model.initialise(u64::from(seed));
    let direction = model.initialise(1_000_000 + u64::from(seed));
    let mut gradient = vec![f32::NAN; parameters.len()];
    let loss = model.loss_and_gradient(&parameters, &batch, &mut gradient);
    assert_eq!(loss, model.evaluate(&parameters, &batch));
    let mut at = |epsilon: f32| {
        let moved: Vec<f32> = parameters
            .iter()
            .zip(&direction)
            .map(|(w, d)| w + epsilon * d)
            .collect();
        model.evaluate(&moved, &batch).mean()
    };
    let numeric = (at(EPSILON) - at(-EPSILON)) / f64::from(2.0 * EPSILON);
    let exact: f64 = gradient
        .iter()
        .zip(&direction)
        .map(|(g, d)| f64::from(*g * *d))
        .sum();
    (numeric - exact).abs()
}

/// Over many shapes. A rectifier has no derivative at its corner, so the few directions that cross
/// one are allowed to differ; a wrong gradient differs in nearly all.
#[test]
fn the_gradient_is_that_of_the_mean_loss() {
    let mut wrong = Vec::new();
    for seed in 0..1000 {
        let part = |modulus: u32, divisor: u32| (seed / divisor % modulus) as usize;
        let shape = [1 + part(6, 1), 1 + part(5, 6), 2 + part(3, 30)];
        let widths = [1 + part(5, 7), 1 + part(5, 11)];
        let error = error(shape, &widths[..part(3, 90)], seed);
        if error > 1e-3 {
            wrong.push((shape, widths, seed, error));
        }
    }
    assert!(
        wrong.len() < 30,
        "{} of 1000 differ, such as {:?}",
        wrong.len(),
        &wrong[..3]
    );
}

#[test]
fn names_and_shapes_are_those_of_pytorch() {
    let model = build(ModelName::Mlp, &[256, 128], 784, 10);
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
    let softmax = build(ModelName::Softmax, &[256], 64, 10);
    assert_eq!(softmax.parameters(), 650);
}
