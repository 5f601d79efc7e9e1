//! What an encoder remembers, to be stored and taken up again.

use std::borrow::Cow;
use std::ops::Range;

use super::Encoder;
use crate::feedback::bound_residual;
use crate::lowrank::Shape;
use crate::spec::CodecMethod;

/// A named vector of an encoder's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory<'a> {
    /// `residual`, `velocity`, `bucket.B.measures` or `bucket.B.factor.F`.
    pub name: String,
    /// The numbers.
    pub values: Values<'a>,
}

/// Numbers of an encoder's memory.
#[derive(Clone, Debug, PartialEq)]
pub enum Values<'a> {
    /// Residuals, velocities, factors.
    Single(Cow<'a, [f32]>),
    /// Sums that the guard goes by.
    Double(Vec<f64>),
}

/// Memory that does not belong to an encoder of this codec and layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} with {found} numbers is nothing that this codec remembers of this model: \
     another name or number of numbers, or one that is not finite"
)]
pub struct ForeignMemory {
    name: String,
    found: usize,
}

impl Encoder {
    /// All that later frames depend on, besides the codec, the layout and the seed. What is empty is
    /// left out.
    pub fn memory(&self) -> Vec<Memory<'_>> {
        let single = |name: String, values| Memory {
            name,
            values: Values::Single(Cow::Borrowed(values)),
        };
        let mut memory = Vec::new();
        for (name, values) in [("residual", &self.residual), ("velocity", &self.velocity)] {
            if !values.is_empty() {
                memory.push(single(name.to_owned(), values));
            }
        }
        for (bucket, state) in &self.buckets {
            memory.push(Memory {
                name: format!("bucket.{bucket}.measures"),
                values: Values::Double(state.guard.measures().to_vec()),
            });
            for (index, factor) in state.factors.iter().enumerate() {
                memory.push(single(format!("bucket.{bucket}.factor.{index}"), factor));
            }
        }
        memory
    }

    /// Becomes the encoder that had this memory and encoded these `buckets`. A residual beyond 2^99 ends there.
    ///
    /// # Errors
    ///
    /// If it is that of another codec or model; the encoder is then of no use.
    pub fn restore<'a>(
        &mut self,
        buckets: &[Range<usize>],
        memory: impl IntoIterator<Item = Memory<'a>>,
    ) -> Result<(), ForeignMemory> {
        self.residual.fill(0.0);
        self.velocity.fill(0.0);
        self.buckets.clear();
        memory
            .into_iter()
            .try_for_each(|memory| self.take(buckets, memory))?;
        bound_residual(&mut self.residual);
        Ok(())
    }

    fn take(
        &mut self,
        buckets: &[Range<usize>],
        Memory { name, values }: Memory<'_>,
    ) -> Result<(), ForeignMemory> {
        let (found, finite) = match &values {
            Values::Single(values) => (values.len(), values.iter().all(|x| x.is_finite())),
            Values::Double(values) => (values.len(), values.iter().all(|x| x.is_finite())),
        };
        let parts: Vec<&str> = name.split('.').collect();
        let bucket = |text: &str| {
            let index = text.parse::<u32>().ok()?;
            buckets.get(index as usize).map(|range| (index, range))
        };
        let place = match (parts.as_slice(), values) {
            // It would never leave an encoder again.
            _ if !finite => None,
            (["residual"], Values::Single(values)) => copy(&mut self.residual, &values),
            (["velocity"], Values::Single(values)) => copy(&mut self.velocity, &values),
            (["bucket", index, "measures"], Values::Double(values)) => bucket(index)
                .zip(values.try_into().ok())
                .map(|((index, _), measures)| {
                    self.buckets
                        .entry(index)
                        .or_default()
                        .guard
                        .resume(measures);
                }),
            (["bucket", index, "factor", part], Values::Single(values)) => bucket(index)
                .zip(part.parse().ok())
                .filter(|((_, range), part)| {
                    self.factor_numbers((*range).clone(), *part) == Some(found)
                })
                .map(|((index, _), part): (_, usize)| {
                    let factors = &mut self.buckets.entry(index).or_default().factors;
                    factors.resize(factors.len().max(part + 1), Vec::new());
                    factors[part] = values.into_owned();
                }),
            _ => None,
        };
        place.ok_or(ForeignMemory { name, found })
    }

    /// How many numbers the warm start of a bucket's part has: none for a part that is sent as it is. Nothing if
    /// there is no such part, or the codec has no factors.
    fn factor_numbers(&self, bucket: Range<usize>, part: usize) -> Option<usize> {
        let CodecMethod::LowRank { rank } = self.common.spec.method() else {
            return None;
        };
        let part = self.common.layout.parts(bucket).nth(part)?;
        let shape = Shape::plan(part.range.len(), part.columns, *rank);
        Some(shape.map_or(0, |shape| shape.rank * shape.columns))
    }
}

fn copy(to: &mut [f32], from: &[f32]) -> Option<()> {
    (to.len() == from.len()).then(|| to.copy_from_slice(from))
}
