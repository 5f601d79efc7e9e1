//! Writes the seed corpus: frames of every codec and size for `frame`, as far as they are short enough, every
//! codec's name for `codec`.

use std::path::Path;

use ecq_quant::{CodecSpec, Encoder};
use ecq_quant_fuzz::{ID, codecs, layout};

/// Element of a gradient.
type Gradient = fn(i32) -> f32;

fn dense(i: i32) -> f32 {
    (i.wrapping_mul(i).wrapping_mul(7) % 23 - 11) as f32 / 8.0
}

/// Few are not zero, and those of many magnitudes: long streams are then short frames.
fn sparse(i: i32) -> f32 {
    if i % 997 == 5 { dense(i / 997) } else { 0.0 }
}

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in ["frame", "codec"] {
        std::fs::create_dir_all(root.join(target))?;
    }
    for (index, text) in codecs().iter().enumerate() {
        let spec: CodecSpec = text.parse().expect("it is a codec");
        let name = text.replace([':', ',', '=', '/'], "-");
        for size in [0_u8, 240, 255] {
            let layout = layout(size);
            for (kind, gradient) in [("", dense as Gradient), ("-sparse", sparse)] {
                let elements = layout.elements();
                let gradient: Vec<f32> = (0..elements as i32).map(gradient).collect();
                let mut frame = Vec::new();
                Encoder::new(&spec, &layout, 7).encode(ID, 1, 0..elements, &gradient, &mut frame);
                // Longer ones would be cut off.
                if frame.len() < 1000 {
                    let body = frame.get(36..).unwrap_or_default();
                    let input = [&[index as u8, size], body].concat();
                    let name = format!("{name}-{elements}{kind}");
                    std::fs::write(root.join("frame").join(name), input)?;
                }
            }
        }
        let mut input = text.clone().into_bytes();
        input.extend([0, 0, 0, 128, 63, 0, 0, 0, 192, 0, 0, 192, 127]);
        std::fs::write(root.join("codec").join(name), input)?;
    }
    Ok(())
}
