//! Taking up a checkpoint.

use ecq_cluster::{Rank, Step};
use ecq_quant::{Encoder, Memory, Values};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use super::keep::{Checkpoints, Whole, read};
use super::{CheckpointError, MODEL, STATE};
use crate::rules::Rules;

impl Checkpoints {
    /// Makes replica and encoder what they were when `rank` had applied the steps before `step`, and forgets
    /// what it has kept later.
    pub(crate) fn take_up(
        &self,
        step: Step,
        rank: Rank,
        rules: &mut Rules,
        encoder: &mut Encoder,
    ) -> Result<(), CheckpointError> {
        let dir = self.path(step, rank);
        let Whole {
            facts,
            model,
            state,
        } = read(&dir)?;
        let malformed = |name: &str, reason: String| CheckpointError::Malformed {
            path: dir.join(name),
            reason,
        };
        restore_model(&model, rules).map_err(|reason| malformed(MODEL, reason))?;
        restore_state(&state, rules, encoder).map_err(|reason| malformed(STATE, reason))?;
        if facts.get("replica_digest") != Some(&rules.replica.digest().to_string()) {
            let reason = "its replica does not have the digest that it was kept with";
            return Err(malformed(MODEL, reason.to_owned()));
        }
        self.forget_after(step, rank)
    }
}

fn restore_model(file: &[u8], rules: &mut Rules) -> Result<(), String> {
    let file = SafeTensors::deserialize(file).map_err(|error| error.to_string())?;
    let mut rest = &mut rules.replica.parameters[..];
    for spec in rules.model.tensors() {
        let tensor = file.tensor(&spec.name).map_err(|error| error.to_string())?;
        let count = spec.shape.iter().product::<usize>();
        if tensor.dtype() != Dtype::F32 || tensor.shape() != spec.shape {
            return Err(format!("{} is not what the model has", spec.name));
        }
        let part = rest.split_off_mut(..count).unwrap_or_default();
        copy(part, tensor.data());
    }
    Ok(())
}

fn restore_state(file: &[u8], rules: &mut Rules, encoder: &mut Encoder) -> Result<(), String> {
    let file = SafeTensors::deserialize(file).map_err(|error| error.to_string())?;
    let tensors = file.tensors();
    let mut memory = Vec::new();
    for (name, tensor) in tensors {
        let data = tensor.data();
        match (name.as_str(), tensor.dtype()) {
            ("optimizer.velocity", Dtype::F32) => {
                let velocity = rules.replica.optimizer.state_mut();
                if data.len() != 4 * velocity.len() {
                    return Err("the optimizer's state has another length".to_owned());
                }
                copy(velocity, data);
            }
            (_, Dtype::F32) => {
                let mut values = vec![0.0; data.len() / 4];
                copy(&mut values, data);
                let values = Values::Single(values.into());
                memory.push(Memory { name, values });
            }
            (_, Dtype::F64) => {
                let values = data.as_chunks::<8>().0.iter();
                let values =
                    Values::Double(values.map(|bytes| f64::from_le_bytes(*bytes)).collect());
                memory.push(Memory { name, values });
            }
            _ => return Err(format!("{name} has a type that no state has")),
        }
    }
    let restored = encoder.restore(&rules.buckets, memory);
    restored.map_err(|error| error.to_string())
}

fn copy(to: &mut [f32], from: &[u8]) {
    for (value, bytes) in to.iter_mut().zip(from.as_chunks::<4>().0) {
        *value = f32::from_le_bytes(*bytes);
    }
}
