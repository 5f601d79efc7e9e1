//! From settings to what encoder and decoder work with.

use super::table::Entry;
use super::{CodecSpec, SpecError};
use crate::cast::Cast;
use crate::coding::Coding;
use crate::feedback::Gains;
use crate::norm::Norm;
use crate::quantizer::Quantizer;
use crate::quantizer::book::Book;
use crate::quantizer::deadzone::DeadZone;
use crate::quantizer::sign::Sign;
use crate::quantizer::sparse::{Choice, Form, Sparse};
use crate::quantizer::uniform::{Rounds, Uniform};

/// How a codec turns values into bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Method {
    /// Every value on its own.
    Cast(Cast),
    /// Groups of values to symbols.
    Quantized {
        quantizer: Quantizer,
        /// Elements of a group; 0: all of a tensor.
        bucket: usize,
        coding: Coding,
        /// Where levels are chosen by it.
        budget: Option<Budget>,
    },
    /// Matrices to factors of this rank.
    LowRank { rank: usize },
}

/// Bits an element, of the first tensor, the second, and so on; the last holds for all that follow.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Budget {
    bits: Vec<f32>,
}

impl Budget {
    /// Whether tensors share one budget, so that some may have more at the cost of others.
    pub(crate) fn is_shared(&self) -> bool {
        self.bits.len() == 1
    }

    /// Bits an element of this tensor.
    pub(crate) fn bits(&self, tensor: usize) -> f64 {
        let bits = self.bits.get(tensor).or(self.bits.last());
        bits.map_or(0.0, |bits| f64::from(*bits))
    }
}

/// Settings whose values are canonical already, so that those missing or malformed cannot occur.
struct Settings<'a>(&'a [(&'static str, String)]);

impl Settings<'_> {
    fn text(&self, key: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| *known == key);
        found.map_or("", |(_, value)| value)
    }

    fn number<T: std::str::FromStr + Default>(&self, key: &str) -> T {
        self.text(key).parse().unwrap_or_default()
    }

    fn norm(&self) -> Norm {
        if self.text("norm") == "l2" {
            Norm::L2
        } else {
            Norm::Linf
        }
    }

    fn coding(&self) -> Coding {
        match self.text("coding") {
            "pack" => Coding::Pack,
            "rans" => Coding::Rans,
            "golomb" => Coding::Golomb,
            _ => Coding::Auto,
        }
    }

    fn form(&self) -> Form {
        match self.text("values") {
            "fp16" => Form::Fp16,
            "sign" => Form::Sign,
            "two-bit" => Form::TwoBit,
            _ => Form::Fp32,
        }
    }

    fn uniform(&self, levels: u8, rounding: Rounds) -> Uniform {
        Uniform {
            levels,
            norm: self.norm(),
            rounding,
            clip: self.text("clip").parse().ok(),
        }
    }

    /// Bits of exponent and mantissa of `eNmM`.
    fn format(&self) -> (u8, u8) {
        let digits: Vec<u8> = self
            .text("format")
            .bytes()
            .filter_map(|b| b.checked_sub(b'0'))
            .filter(|d| *d < 10)
            .collect();
        match digits[..] {
            [exponent, mantissa] => (exponent, mantissa),
            _ => (2, 1),
        }
    }

    fn budget(&self) -> Option<Budget> {
        let bits: Result<Vec<f32>, _> = self.text("bits").split('/').map(str::parse).collect();
        bits.ok().map(|bits| Budget { bits })
    }

    fn quantizer(&self, name: &str) -> Quantizer {
        let sparse = |choice| {
            Quantizer::Sparse(Sparse {
                choice,
                form: self.form(),
            })
        };
        let stochastic = self.text("rounding") == "stochastic";
        let levels: u8 = self.number("levels");
        match name {
            "int8" => Quantizer::Uniform(self.uniform(127, Rounds::Nearest)),
            "terngrad" => Quantizer::Uniform(self.uniform(1, Rounds::Stochastic)),
            "dither" => Quantizer::Uniform(self.uniform(levels, Rounds::Dithered)),
            "deadzone" => Quantizer::DeadZone(DeadZone {
                step: self.number("step"),
                levels,
                escape: self.text("escape") == "on",
            }),
            "fp8" | "minifloat" => {
                let (exponent, mantissa) = self.format();
                Quantizer::Book(Book::float(exponent, mantissa, Norm::Linf, stochastic))
            }
            "nuqsgd" => Quantizer::Book(Book::powers(levels, true, self.norm(), true)),
            "log" => {
                let halves = self.text("base") == "2";
                Quantizer::Book(Book::powers(levels, halves, self.norm(), false))
            }
            "alq" => Quantizer::Book(Book::fitted(levels, self.norm())),
            "natural" => Quantizer::Book(Book::natural()),
            "sign" => Quantizer::Sign(Sign::OneMean),
            "onebit" => Quantizer::Sign(Sign::TwoMeans),
            "topk" => sparse(Choice::Top(self.number("fraction"))),
            "randomk" => sparse(Choice::Random(self.number("fraction"))),
            "threshold" => sparse(Choice::Beyond(self.number("at"))),
            // qsgd and ecq.
            _ => Quantizer::Uniform(self.uniform(levels, Rounds::Stochastic)),
        }
    }
}

pub(super) fn build(
    text: &str,
    entry: &'static Entry,
    settings: Vec<(&'static str, String)>,
) -> Result<CodecSpec, SpecError> {
    let mut settings = settings;
    if Settings(&settings).number::<f32>("alpha") == 0.0 && entry.alpha == "0" {
        // Without feedback its other settings mean nothing: one way to say it.
        let unused = settings
            .iter_mut()
            .filter(|(key, _)| matches!(*key, "beta" | "guard"));
        let defaults = entry.keys().collect::<Vec<_>>();
        for (key, value) in unused {
            let default = defaults.iter().find(|(known, _)| known == key);
            *value = default.map_or("", |(_, default)| default).to_owned();
        }
    }
    let of = Settings(&settings);
    check(text, entry.name, &of)?;
    let method = match entry.name {
        "fp32" => Method::Cast(Cast::Fp32),
        "fp16" => Method::Cast(Cast::Fp16),
        "bf16" => Method::Cast(Cast::Bf16),
        "powersgd" => Method::LowRank {
            rank: of.number("rank"),
        },
        name => Method::Quantized {
            quantizer: of.quantizer(name),
            // `tensor` is no number, and 0.
            bucket: of.number("bucket"),
            coding: of.coding(),
            budget: of.budget(),
        },
    };
    let gains = Gains {
        alpha: of.number("alpha"),
        beta: of.number("beta"),
        guard: of.text("guard") == "on",
    };
    let momentum = of.number("momentum");
    Ok(CodecSpec {
        entry,
        method,
        gains,
        momentum,
        settings,
    })
}

/// Values that are each possible, but not together.
fn check(text: &str, name: &str, of: &Settings<'_>) -> Result<(), SpecError> {
    let refuse = |reason| {
        Err(SpecError::Contradiction {
            text: text.to_owned(),
            reason,
        })
    };
    match name {
        "randomk" if matches!(of.form(), Form::Sign | Form::TwoBit) => {
            refuse("randomk sends values=fp32 or fp16")
        }
        "deadzone" if of.number::<u8>("levels") > 126 => {
            refuse("deadzone has at most 126 levels: one symbol is kept for the escape")
        }
        "fp8" if !matches!(of.text("format"), "e4m3" | "e5m2") => {
            refuse("fp8 has format=e4m3 or e5m2; minifloat has the others")
        }
        _ if of.number::<f32>("momentum") > 0.0 && of.number::<f32>("alpha") == 0.0 => {
            refuse("momentum correction needs error feedback: alpha above 0")
        }
        _ => Ok(()),
    }
}
