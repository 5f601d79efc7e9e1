//! The embedded digits are what they should be, and models learn them.

use ecq_nn::data::{self, DataName, Dataset, Split};
use ecq_nn::optim::{Schedule, Sgd};
use ecq_nn::{Batch, ModelName, Sampler, Targets};

fn digits() -> Dataset {
    data::load(DataName::Digits, None).expect("it is embedded")
}

#[test]
fn the_embedded_digits_are_complete() {
    let digits = digits();
    assert_eq!((digits.train.len(), digits.test.len()), (1438, 359));
    let mut histogram = [0; 10];
    for split in [&digits.train, &digits.test] {
        let Targets::Classes(classes) = split.targets() else {
            panic!("digits are classes");
        };
        classes
            .iter()
            .for_each(|class| histogram[*class as usize] += 1);
    }
    assert_eq!(
        histogram,
        [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    );
    let mut batch = Batch::default();
    digits
        .train
        .gather(&(0..digits.train.len()).collect::<Vec<_>>(), &mut batch);
    assert!(
        batch
            .inputs
            .dense()
            .iter()
            .all(|pixel| (0.0..=1.0).contains(pixel))
    );
}

fn accuracy_after(name: ModelName, steps: u64) -> f64 {
    let digits = digits();
    let mut model = name
        .build(&[64, 32], digits.shape, digits.task)
        .expect("it takes images");
    let mut parameters = model.initialise(3);
    let mut gradient = vec![0.0; parameters.len()];
    let mut sgd = Sgd::new(0.9, parameters.len());
    let (mut sampler, mut indices) = (Sampler::new(3, digits.train.len()), Vec::new());
    let mut batch = Batch::default();
    for step in 0..steps {
        sampler.indices(step * 64, 64, &mut indices);
        digits.train.gather(&indices, &mut batch);
        model.loss_and_gradient(&parameters, &batch, &mut gradient);
        sgd.apply(
            Schedule::Linear.at(0.1, step, steps),
            &gradient,
            &mut parameters,
        );
    }
    let test: &Split = &digits.test;
    test.gather(&(0..test.len()).collect::<Vec<_>>(), &mut batch);
    model.evaluate(&parameters, &batch).accuracy()
}

#[test]
fn a_softmax_regression_learns_the_digits() {
    let accuracy = accuracy_after(ModelName::Softmax, 600);
    assert!(accuracy > 0.93, "{accuracy}");
}

#[test]
fn an_mlp_learns_the_digits() {
    let accuracy = accuracy_after(ModelName::Mlp, 600);
    assert!(accuracy > 0.95, "{accuracy}");
}
