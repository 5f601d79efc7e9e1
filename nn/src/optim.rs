//! Optimizers and learning-rate schedules: the arithmetic that every replica repeats to the bit.

use std::fmt;
use std::str::FromStr;

use crate::model::UnknownName;

/// Stochastic gradient descent with momentum, in PyTorch's form: v ← m·v + g, w ← w − lr·v.
///
/// Plain multiplications and additions in element order, never contracted: equal on every CPU.
#[derive(Clone, Debug)]
pub struct Sgd {
    momentum: f32,
    velocity: Vec<f32>,
}

impl Sgd {
    /// An optimizer at rest for that many parameters; momentum 0 is plain SGD.
    pub fn new(momentum: f32, parameters: usize) -> Self {
        Self {
            momentum,
            velocity: vec![0.0; parameters],
        }
    }

    /// Takes a step along the mean gradient.
    ///
    /// # Panics
    ///
    /// If the lengths differ from the optimizer's.
    pub fn apply(&mut self, lr: f32, gradient: &[f32], parameters: &mut [f32]) {
        assert_eq!(
            gradient.len(),
            self.velocity.len(),
            "one gradient a parameter"
        );
        assert_eq!(
            parameters.len(),
            self.velocity.len(),
            "one velocity a parameter"
        );
        for ((w, v), g) in parameters.iter_mut().zip(&mut self.velocity).zip(gradient) {
            *v = self.momentum * *v + *g;
            *w -= lr * *v;
        }
    }

    /// The velocity: part of the replica.
    pub fn state(&self) -> &[f32] {
        &self.velocity
    }

    /// The same, to take over another replica's.
    pub fn state_mut(&mut self) -> &mut [f32] {
        &mut self.velocity
    }
}

/// How the learning rate moves over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// It does not.
    Constant,
    /// lr·(1 − t/T): linearly to zero.
    Linear,
}

impl Schedule {
    /// The learning rate of step `step` of `steps`, given that of the first.
    pub fn at(self, lr: f32, step: u64, steps: u64) -> f32 {
        match self {
            Self::Constant => lr,
            // In double precision, which is exact enough to be the same everywhere.
            Self::Linear => (f64::from(lr) * (1.0 - step as f64 / steps.max(1) as f64)) as f32,
        }
    }
}

impl FromStr for Schedule {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "constant" => Ok(Self::Constant),
            "linear" => Ok(Self::Linear),
            _ => Err(UnknownName {
                kind: "learning-rate schedule",
                found: text.to_owned(),
                known: "constant, linear",
            }),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constant => "constant",
            Self::Linear => "linear",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn momentum_by_hand() {
        let mut sgd = Sgd::new(0.5, 2);
        let mut w = [1.0, 2.0];
        sgd.apply(0.25, &[4.0, -8.0], &mut w);
        assert_eq!((sgd.state(), w), (&[4.0, -8.0][..], [0.0, 4.0]));
        sgd.apply(0.25, &[0.0, 4.0], &mut w);
        assert_eq!((sgd.state(), w), (&[2.0, 0.0][..], [-0.5, 4.0]));
    }

    #[test]
    fn schedules() {
        assert_eq!(Schedule::Constant.at(0.1, 7, 10), 0.1);
        assert_eq!(Schedule::Linear.at(0.1, 0, 10), 0.1);
        assert_eq!(Schedule::Linear.at(0.1, 5, 10), 0.05);
        assert_eq!("linear".parse(), Ok(Schedule::Linear));
        assert!(
            "cosine"
                .parse::<Schedule>()
                .is_err_and(|e| e.to_string().contains("constant"))
        );
    }
}
