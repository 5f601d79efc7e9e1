//! Writes the seed corpus: a frame of every codec and size for `frame`, every codec's name for `codec`.

use std::path::Path;

use ecq_quant::{CodecSpec, Encoder};
use ecq_quant_fuzz::{ID, codecs, layout};

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in ["frame", "codec"] {
        std::fs::create_dir_all(root.join(target))?;
    }
    for (index, text) in codecs().iter().enumerate() {
        let spec: CodecSpec = text.parse().expect("it is a codec");
        let name = text.replace([':', ',', '='], "-");
        for (size, elements) in [(0_u8, 44), (240, 6060)] {
            let layout = layout(size);
            let gradient: Vec<f32> = (0..elements)
                .map(|i| ((i * i * 7 % 23) - 11) as f32 / 8.0)
                .collect();
            let mut frame = Vec::new();
            let all = 0..layout.elements();
            Encoder::new(&spec, &layout, 7).encode(ID, 1, all, &gradient, &mut frame);
            if frame.len() < 800 {
                let input = [&[index as u8, size], frame.get(36..).unwrap_or_default()].concat();
                std::fs::write(root.join("frame").join(format!("{name}-{elements}")), input)?;
            }
        }
        let mut input = text.clone().into_bytes();
        input.extend([0, 0, 0, 128, 63, 0, 0, 0, 192, 0, 0, 192, 127]);
        std::fs::write(root.join("codec").join(name), input)?;
    }
    Ok(())
}
