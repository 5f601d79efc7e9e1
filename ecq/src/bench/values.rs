//! What codecs are measured on.

use ecq_quant::Layout;
use safetensors::{Dtype, SafeTensors};

use crate::exit::{Code, Failed};

/// Values as a model's gradient: a flat vector and its tensors.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) flat: Vec<f32>,
    pub(super) layout: Layout,
}

/// Elements of a row of the matrix that generated values make up.
const COLUMNS: usize = 1024;

/// Generated values of a distribution, or those of a file.
pub(super) fn load(name: &str, elements: u64) -> Result<Values, Failed> {
    let draw: fn(u64) -> f32 = match name {
        "gauss" => gauss,
        "laplace" => laplace,
        "sparse" => |i| if uniform(i, 2) < 0.01 { gauss(i) } else { 0.0 },
        file if file.ends_with(".safetensors") => return read(file),
        other => {
            let text = format!(
                "unknown distribution {other:?}: expected gauss, laplace, sparse or a file that \
                 ends with .safetensors"
            );
            return Err(Failed::new(Code::Usage, text));
        }
    };
    let flat: Vec<f32> = (0..elements).map(draw).collect();
    let rest = flat.len() % COLUMNS;
    let shapes = [vec![flat.len() / COLUMNS, COLUMNS], vec![rest]];
    Ok(Values {
        layout: Layout::of_shapes(shapes),
        flat,
    })
}

fn read(file: &str) -> Result<Values, Failed> {
    let data = |what: String| Failed::new(Code::Data, format!("{file}: {what}"));
    let bytes = std::fs::read(file).map_err(|error| data(format!("cannot be read: {error}")))?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|error| data(format!("is no safetensors file: {error}")))?;
    let mut views = tensors.tensors();
    views.sort_by(|a, b| a.0.cmp(&b.0));
    views.retain(|(_, view)| view.dtype() == Dtype::F32);
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    };
    let flat: Vec<f32> = views
        .iter()
        .flat_map(|(_, view)| floats(view.data()))
        .collect();
    if flat.is_empty() {
        return Err(data("has no tensor of type F32".to_owned()));
    }
    Ok(Values {
        layout: Layout::of_shapes(views.iter().map(|(_, view)| view.shape())),
        flat,
    })
}

/// Uniform in (0, 1), a function of its arguments.
fn uniform(index: u64, stream: u64) -> f64 {
    let mut x =
        index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream.wrapping_mul(0xd134_2543_de82_ef95);
    x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^= x >> 32;
    ((x >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// Standard Gaussian (Box–Muller).
fn gauss(index: u64) -> f32 {
    let radius = (-2.0 * uniform(index, 0).ln()).sqrt();
    (radius * (std::f64::consts::TAU * uniform(index, 1)).cos()) as f32
}

/// Laplace of variance 1.
fn laplace(index: u64) -> f32 {
    let centred = uniform(index, 0) - 0.5;
    (-centred.signum() * (1.0 - 2.0 * centred.abs()).ln() * std::f64::consts::FRAC_1_SQRT_2) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_variance_one_and_files_are_read_back() {
        for (name, expected) in [("gauss", 1.0), ("laplace", 1.0), ("sparse", 0.01)] {
            let values = load(name, 300_000).expect("it is known").flat;
            let variance = values.iter().map(|v| f64::from(v * v)).sum::<f64>() / 3e5;
            assert!(
                (variance / expected - 1.0).abs() < 0.06,
                "{name}: {variance}"
            );
        }
        let file = tempfile::Builder::new()
            .suffix(".safetensors")
            .tempfile()
            .expect("a file");
        let bytes: Vec<u8> = [1.0_f32, -2.0, 0.5]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let view =
            safetensors::tensor::TensorView::new(Dtype::F32, vec![3], &bytes).expect("a view");
        let text = safetensors::serialize([("g", view)], None).expect("it serialises");
        std::fs::write(file.path(), text).expect("it is written");
        let path = file.path().to_str().expect("a path in UTF-8");
        assert_eq!(load(path, 1).expect("it is read").flat, [1.0, -2.0, 0.5]);
        for (name, said) in [
            ("cauchy", "unknown distribution"),
            ("none.safetensors", "cannot be read"),
        ] {
            let error = load(name, 1).expect_err("it is refused").message;
            assert!(error.contains(said), "{error}");
        }
    }
}
