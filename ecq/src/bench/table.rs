//! The table that people read.

use std::fmt::Write as _;

use super::measure::Measured;
use crate::cli::BenchCodecArgs;

/// One line a codec.
pub(super) fn render(rows: &[Measured], elements: usize, args: &BenchCodecArgs) -> String {
    let mut memcpy: Vec<f64> = rows.iter().map(|row| row.memcpy_gbps).collect();
    memcpy.sort_by(f64::total_cmp);
    let memcpy = memcpy.get(memcpy.len() / 2).copied().unwrap_or(0.0);
    let simd = rows.first().map_or("", |row| row.simd);
    let threads = if args.threads == 1 {
        "1 thread".into()
    } else {
        format!("{} threads", args.threads)
    };
    let mut text = format!(
        "{elements} elements of {}, {simd}, {threads}, memcpy {memcpy:.1} GB/s\n\n",
        args.distribution
    );
    let width = rows
        .iter()
        .map(|row| row.codec.len())
        .max()
        .unwrap_or(0)
        .max(5);
    let _ = writeln!(
        text,
        "{:width$}  {:>14}  {:>14}  {:>9}  {:>7}  {:>6}  {:>9}  {:>6}  {:>9}",
        "codec",
        "encode (ratio)",
        "decode (ratio)",
        "bits/elem",
        "entropy",
        "scales",
        "NMSE",
        "gap",
        "omega"
    );
    for row in rows {
        let _ = writeln!(
            text,
            "{:width$}  {:>7.2} ({:.2})  {:>7.2} ({:.2})  {:>9.4}  {:>7.4}  {:>6.4}  {:>9}  {:>6.2}  {:>9}",
            row.codec,
            row.encode_gbps,
            row.encode_vs_memcpy,
            row.decode_gbps,
            row.decode_vs_memcpy,
            row.bits_per_element,
            row.entropy_bits,
            row.scale_bits,
            short(row.relative_squared_error),
            row.rate_distortion_gap_bits,
            short(row.omega),
        );
    }
    text
}

/// Four digits, however small the number.
fn short(number: f64) -> String {
    if number == 0.0 || number >= 0.001 {
        format!("{number:.4}")
    } else {
        format!("{number:.2e}")
    }
}
