//! The keys of codecs: what their values may be.

use super::SpecError;

/// Keys of the error feedback, which every codec but fp32 has.
pub(super) const FEEDBACK: [&str; 3] = ["alpha", "beta", "guard"];

pub(super) const HELP: &str = "\
Keys:
  levels     non-zero levels a sign, 1 to 127 (deadzone: the largest with a symbol, 1 to 126)
  norm       scale of a group: linf (largest magnitude) or l2
  bucket     elements that share a scale or a selection; tensor: all of a tensor in a frame
  coding     pack (fixed width), rans (entropy), golomb (gaps; for sparse streams), auto (the smallest
             of those that suit the stream)
  bits       none, or a budget in bits an element, scales included: levels (deadzone: step and levels)
             are then chosen for each tensor so that the total error is least, and given ones not used.
             The coarsest choice is taken where a budget is below it, which for Gaussian values is
             1.1 bits with norm=linf, 0.3 with norm=l2, 0.6 with deadzone. 2/0.5/1: a budget for the
             first tensor, one for the second, one for each of the others; tensors are those of
             model.safetensors in the model's order, weight and bias each one
  step       of the dead-zone quantizer, in rms of the group: 0.01 to 3.4
  escape     on: values beyond the levels are sent all the same; off: as the largest level
  clip       standard deviations beyond which values are clipped, or off
  format     eNmM: bits of exponent and mantissa; fp8: e4m3 or e5m2
  rounding   nearest or stochastic
  base       2 or sqrt2
  fraction   of the elements, above 0 to 1
  at         threshold in rms of the group
  values     of the chosen elements: fp32, fp16, sign (one mean), two-bit (two means)
  momentum   momentum correction of deep gradient compression, 0 (off) to below 1: the codec
             accumulates velocities instead of gradients; give the optimizer --momentum 0 then
  rank       of the factors, 1 to 64
Error feedback, of every codec but fp32 (v = g + alpha h; h <- (beta - alpha) h + v - q(v)); where no
default is shown above it is off, alpha=0:
  alpha      weight of the residual in what is sent, 0 (no feedback) to 1
  beta       memory of the residual, 0 to 1 (default 1)
  guard      on (default): alpha is bounded where an unbiased quantizer is measured to make the
             residual grow (lambda > 0.9); off: it is not. Other quantizers need none
  preset     of ecq: safe (the defaults); paper: norm=l2,alpha=0.2,beta=0.9; one-level:
             levels=1,alpha=0.38. Other keys override it
quant/FORMAT.md says which settings are stable and what each costs.";

/// The parts of `key=value,key=value`.
pub(super) fn split<'a>(
    text: &str,
    settings: &'a str,
) -> Result<Vec<(&'a str, &'a str)>, SpecError> {
    let parts = settings
        .split(',')
        .map(str::trim)
        .filter(|_| !settings.is_empty());
    parts
        .map(|part| {
            part.split_once('=').ok_or_else(|| SpecError::Malformed {
                part: part.to_owned(),
                text: text.to_owned(),
            })
        })
        .collect()
}

/// What a preset of ecq stands for.
pub(super) fn preset(name: &str) -> Result<&'static [(&'static str, &'static str)], SpecError> {
    match name {
        "safe" => Ok(&[]),
        "paper" => Ok(&[("norm", "l2"), ("alpha", "0.2"), ("beta", "0.9")]),
        "one-level" => Ok(&[("levels", "1"), ("alpha", "0.38"), ("beta", "1")]),
        _ => Err(error("preset", name, "safe, paper or one-level")),
    }
}

/// A value in its canonical form, once it is one for this key.
pub(super) fn canonical(key: &'static str, text: &str) -> Result<String, SpecError> {
    match key {
        "levels" => integer(key, text, 1..=127, "1 to 127"),
        "rank" => integer(key, text, 1..=64, "1 to 64"),
        "bucket" if text == "tensor" => Ok(text.to_owned()),
        "bucket" => integer(
            key,
            text,
            1..=u64::from(u32::MAX),
            "a number of elements from 1 to 2^32 - 1, or tensor",
        ),
        "norm" => one_of(key, text, &["linf", "l2"], "linf or l2"),
        "coding" => one_of(
            key,
            text,
            &["auto", "pack", "rans", "golomb"],
            "auto, pack, rans or golomb",
        ),
        "guard" | "escape" => one_of(key, text, &["on", "off"], "on or off"),
        "rounding" => one_of(
            key,
            text,
            &["nearest", "stochastic"],
            "nearest or stochastic",
        ),
        "base" => one_of(key, text, &["2", "sqrt2"], "2 or sqrt2"),
        "values" => one_of(
            key,
            text,
            &["fp32", "fp16", "sign", "two-bit"],
            "fp32, fp16, sign or two-bit",
        ),
        "format" => one_of(
            key,
            text,
            FORMATS,
            "e1m2, e2m1, e3m0, e2m3, e3m2, e4m3 or e5m2",
        ),
        "clip" if text == "off" => Ok(text.to_owned()),
        "clip" => number(key, text, 0.1..=100.0, "a number from 0.1 to 100, or off"),
        "step" => number(key, text, 0.01..=3.4, "a number from 0.01 to 3.4"),
        "fraction" => number(key, text, f32::MIN_POSITIVE..=1.0, "a number above 0, to 1"),
        "at" => number(key, text, 0.0..=1000.0, "a number from 0 to 1000"),
        "momentum" => number(key, text, 0.0..=0.999, "a number from 0 to 0.999"),
        "bits" if text == "none" => Ok(text.to_owned()),
        "bits" => {
            let expected = "bits an element from 0.01 to 8, one number or several with / between";
            let numbers: Result<Vec<String>, _> = text
                .split('/')
                .map(|part| number(key, part, 0.01..=8.0, expected))
                .collect();
            Ok(numbers?.join("/"))
        }
        // alpha, beta: all other keys were refused before.
        _ => number(key, text, 0.0..=1.0, "a number from 0 to 1"),
    }
}

const FORMATS: &[&str] = &["e1m2", "e2m1", "e3m0", "e2m3", "e3m2", "e4m3", "e5m2"];

fn integer(
    key: &'static str,
    text: &str,
    range: std::ops::RangeInclusive<u64>,
    expected: &'static str,
) -> Result<String, SpecError> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    let number = number.ok_or_else(|| error(key, text, expected))?;
    Ok(number.to_string())
}

fn number(
    key: &'static str,
    text: &str,
    range: std::ops::RangeInclusive<f32>,
    expected: &'static str,
) -> Result<String, SpecError> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    let number = number.ok_or_else(|| error(key, text, expected))?;
    // −0 is 0.
    Ok((number + 0.0).to_string())
}

fn one_of(
    key: &'static str,
    text: &str,
    known: &[&str],
    expected: &'static str,
) -> Result<String, SpecError> {
    if known.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(error(key, text, expected))
    }
}

fn error(key: &'static str, found: &str, expected: &'static str) -> SpecError {
    SpecError::Value {
        key,
        found: found.to_owned(),
        expected,
    }
}
