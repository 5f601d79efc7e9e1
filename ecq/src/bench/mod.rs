//! `ecq bench codec`: all codecs on the same values, side by side.

mod measure;
mod table;
mod values;

use std::io::Write as _;

use ecq_quant::{CodecSpec, Simd};

use crate::cli::BenchCodecArgs;
use crate::exit::{Code, Failed};
use measure::Measured;

/// What is measured if nothing is asked for: every codec, and settings of ecq that differ in speed.
fn all() -> Vec<String> {
    let settings = [
        "ecq:levels=1",
        "ecq:levels=3",
        "ecq:preset=paper",
        "ecq:bits=2",
        "deadzone:step=3",
    ];
    CodecSpec::names()
        .chain(settings)
        .map(str::to_owned)
        .collect()
}

/// Runs the command.
pub(crate) fn codec(args: &BenchCodecArgs) -> Result<(), Failed> {
    let simd = Simd::named(&args.simd).map_err(Failed::usage)?;
    let texts = if args.codec.is_empty() {
        all()
    } else {
        args.codec.clone()
    };
    let specs: Result<Vec<CodecSpec>, _> = texts.iter().map(|text| text.parse()).collect();
    let specs = specs.map_err(Failed::usage)?;
    let values = values::load(&args.distribution, args.elements)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads.into())
        .build()
        .map_err(|error| Failed::new(Code::Internal, format!("cannot start threads: {error}")))?;
    let rows: Vec<Measured> = pool.install(|| {
        let measure = |(spec, text): (&CodecSpec, &String)| {
            tracing::debug!(codec = text, "measuring");
            measure::measure(spec, text, simd, args, &values)
        };
        specs.iter().zip(&texts).map(measure).collect()
    });
    let text = if args.json {
        let json = serde_json::to_string_pretty(&rows);
        json.map_err(|error| Failed::new(Code::Internal, error.to_string()))? + "\n"
    } else {
        table::render(&rows, values.flat.len(), args)
    };
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| {
        Failed::new(
            Code::Io,
            format!("cannot write to standard output: {error}"),
        )
    })
}
