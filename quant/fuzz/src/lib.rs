//! What the fuzz targets do with their input.

use std::sync::OnceLock;

use ecq_quant::{CodecSpec, Decoder, Encoder, FrameId, Layout, Simd};

/// Every codec, and every lossless code of those that have one.
pub fn codecs() -> Vec<String> {
    let others = [
        "qsgd:coding=pack",
        "qsgd:levels=1,coding=rans",
        "qsgd:levels=1,coding=golomb",
        "qsgd:levels=3,coding=golomb",
        "qsgd:levels=60,coding=rans",
        "ecq:bits=2",
        "deadzone:bits=2",
        "deadzone:escape=off",
        "topk:fraction=0.1,values=fp16",
        "topk:fraction=0.1,values=sign",
        "topk:fraction=0.1,values=two-bit",
        "randomk:fraction=0.2,values=fp16",
        "sign:coding=rans",
        // One scale and few values: streams of many states, or of long gaps, in short frames.
        "qsgd:levels=20,bucket=tensor,coding=rans",
        "qsgd:levels=1,bucket=tensor,coding=golomb",
        "deadzone:levels=3,bucket=tensor,coding=golomb",
        // A budget for each tensor: several streams.
        "qsgd:bits=1/6,bucket=tensor",
        "deadzone:bits=1/6,bucket=tensor",
    ];
    CodecSpec::names()
        .chain(others)
        .map(str::to_owned)
        .collect()
}

/// The identity of all frames here.
pub const ID: FrameId = FrameId {
    step: 1,
    rank: 0,
    bucket: 0,
};

/// A small model; one whose symbols need 16 states; one whose symbols need 64.
pub fn layout(size: u8) -> Layout {
    match size {
        255 => Layout::of_shapes([vec![280, 250]]),
        240..255 => Layout::of_shapes([vec![60, 100], vec![60]]),
        _ => Layout::of_shapes([vec![5, 8], vec![4]]),
    }
}

/// Codec, layout, and header and fingerprint as an encoder writes them.
type Case = (CodecSpec, Layout, Vec<u8>);

/// All cases: for each codec one of each size. They are made once, since inputs are many.
fn case(codec: u8, size: u8) -> &'static Case {
    static CASES: OnceLock<Vec<[Case; 3]>> = OnceLock::new();
    let cases = CASES.get_or_init(|| {
        let case = |text: &str, size: u8| {
            let spec: CodecSpec = text.parse().expect("it is a codec");
            let layout = layout(size);
            let zeros = vec![0.0; layout.elements()];
            let mut head = Vec::new();
            Encoder::new(&spec, &layout, 7).encode(ID, 1, 0..zeros.len(), &zeros, &mut head);
            head.truncate(36);
            (spec, layout, head)
        };
        codecs()
            .iter()
            .map(|text| [0, 240, 255].map(|size| case(text, size)))
            .collect()
    });
    let size = [240, 255].iter().filter(|from| size >= **from).count();
    &cases[usize::from(codec) % cases.len()][size]
}

/// The checksum as `FORMAT.md` defines it.
pub fn seal(frame: &mut [u8]) {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..28]), &frame[32..]);
    frame[28..32].copy_from_slice(&checksum.to_le_bytes());
}

/// Input: codec, layout, then the frame after its codec byte, with whatever checksum.
///
/// Whatever the bytes are: no panic; the same outcome and the same sums on every path; only finite
/// numbers; a refused frame changes nothing.
pub fn frame(data: &[u8]) {
    let [codec, size, rest @ ..] = data else {
        return;
    };
    let (spec, layout, head) = case(*codec, *size);
    let elements = layout.elements();
    let mut frame = [&head[..], rest].concat();
    seal(&mut frame);
    let mut expected = None;
    for simd in Simd::available() {
        let mut sum = vec![0.5; elements];
        let mut decoder = Decoder::new(spec, layout, 7).with_simd(*simd);
        let outcome = decoder.accumulate(&frame, ID, 0..elements, 0.25, &mut sum);
        match &outcome {
            Ok(()) => assert!(sum.iter().all(|x| x.is_finite())),
            Err(_) => assert!(sum.iter().all(|x| *x == 0.5)),
        }
        let bits: Vec<u32> = sum.iter().map(|x| x.to_bits()).collect();
        let found = (outcome, bits);
        assert!(
            *expected.get_or_insert_with(|| found.clone()) == found,
            "{spec} on {simd}"
        );
    }
    // Without the header's help: any bytes at all.
    let mut sum = vec![0.5; elements];
    let _refused = Decoder::new(spec, layout, 7).accumulate(rest, ID, 0..elements, 1.0, &mut sum);
    let _refused = Decoder::samples(rest);
}

/// Input: a codec as text, a zero byte, then values of its gradients.
///
/// Whatever the text is: no panic, and a canonical form that is a fixed point. Whatever the values are:
/// every frame decodes, within its bound, the same on every path; residual and sums are finite. Now and
/// then the values are repeated for as many elements as it takes to need 16 or 64 states.
pub fn codec(data: &[u8]) {
    let end = data
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(data.len());
    let Ok(Ok(spec)) = std::str::from_utf8(&data[..end]).map(str::parse::<CodecSpec>) else {
        return;
    };
    assert_eq!(spec.to_string().parse::<CodecSpec>().as_ref(), Ok(&spec));
    let bytes = data.get(end + 1..).unwrap_or_default();
    let layout = layout(match bytes.len() % 64 {
        1 => 255,
        2 => 240,
        _ => 0,
    });
    let elements = layout.elements();
    let mut values: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let given = values.len().max(1);
    values.resize(given, 0.25);
    values = values.into_iter().cycle().take(2 * elements).collect();
    let run = |simd: Simd| {
        let mut encoder = Encoder::new(&spec, &layout, 7).with_simd(simd);
        let mut decoder = Decoder::new(&spec, &layout, 7).with_simd(simd);
        let mut all = Vec::new();
        for (step, gradient) in (0..).zip(values.chunks_exact(elements)) {
            let id = FrameId { step, ..ID };
            let (mut frame, mut sum) = (Vec::new(), vec![0.0; elements]);
            let stats = encoder.encode(id, 1, 0..elements, gradient, &mut frame);
            assert!(stats.omega().is_finite() && stats.residual_ratio().is_finite());
            assert!(frame.len() <= decoder.frame_bytes_max(0..elements));
            let done = decoder.accumulate(&frame, id, 0..elements, 1.0, &mut sum);
            assert_eq!(done, Ok(()), "{spec}");
            assert!(
                sum.iter().chain(encoder.residual()).all(|x| x.is_finite()),
                "{spec}"
            );
            all.push((frame, sum.iter().map(|x| x.to_bits()).collect::<Vec<_>>()));
        }
        all
    };
    let expected = run(Simd::PORTABLE);
    for simd in Simd::available() {
        assert!(run(*simd) == expected, "{spec} on {simd}");
    }
}
