//! Codecs as people write them.

use std::fmt;
use std::str::FromStr;

use crate::cast::Cast;
use crate::coding::Coding;
use crate::feedback::Gains;
use crate::norm::Norm;
use crate::uniform::Uniform;

/// A codec and all its settings.
///
/// Written `name` or `name:key=value,key=value`; [`CodecSpec::GRAMMAR`] is the whole grammar.
/// `Display` gives the canonical form with every key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CodecSpec {
    /// 32-bit floats: the baseline.
    Fp32,
    /// 16-bit floats.
    Fp16,
    /// Uniform levels with stochastic rounding, nothing remembered.
    Qsgd(Uniform),
    /// The same behind error feedback.
    Ecq(Uniform, Gains),
}

impl CodecSpec {
    /// The grammar, for help texts.
    pub const GRAMMAR: &str = "\
CODEC is name or name:key=value,key=value,...

  fp32    32-bit floats, the baseline
  fp16    16-bit floats
  qsgd    uniform levels, stochastic rounding (QSGD)
            levels=4      non-zero levels a sign, 1 to 127
            norm=linf     scale of a group: linf (largest magnitude) or l2
            bucket=512    elements that share a scale; bucket=tensor: all of a tensor
            coding=auto   pack (fixed width), rans (entropy coder), auto (the smaller)
  ecq     qsgd behind error feedback (ECQ-SGD); its keys, and
            alpha=1       weight of the residual in what is sent, 0 to 1
            beta=1        memory of the residual, 0 to 1
            preset=safe   safe: the values above; paper: norm=l2,alpha=0.2,beta=0.9;
                          one-level: levels=1,alpha=0.38,beta=1. Other keys override it

alpha=1,beta=1 diverges with norm=l2 and few levels, and lets the residual grow large
with levels=1: quant/FORMAT.md says which settings are stable";

    /// The codec's number in a frame's header.
    pub(crate) fn number(&self) -> u8 {
        match self {
            Self::Fp32 => 0,
            Self::Fp16 => 1,
            Self::Qsgd(_) => 2,
            Self::Ecq(..) => 3,
        }
    }

    /// The cast, if that is what the codec is.
    pub(crate) fn cast(&self) -> Option<Cast> {
        match self {
            Self::Fp32 => Some(Cast::Fp32),
            Self::Fp16 => Some(Cast::Fp16),
            Self::Qsgd(_) | Self::Ecq(..) => None,
        }
    }

    /// The quantizer, if the codec is not a cast.
    pub(crate) fn quantizer(&self) -> Option<Uniform> {
        match self {
            Self::Fp32 | Self::Fp16 => None,
            Self::Qsgd(quantizer) | Self::Ecq(quantizer, _) => Some(*quantizer),
        }
    }

    /// The gains of the error feedback, if there is one.
    pub fn gains(&self) -> Option<Gains> {
        match self {
            Self::Ecq(_, gains) => Some(*gains),
            Self::Fp32 | Self::Fp16 | Self::Qsgd(_) => None,
        }
    }
}

const SAFE: (Uniform, Gains) = (
    Uniform {
        levels: 4,
        norm: Norm::Linf,
        bucket: 512,
        coding: Coding::Auto,
    },
    Gains {
        alpha: 1.0,
        beta: 1.0,
    },
);

/// A text that is no codec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No codec of this name.
    #[error("unknown codec {found:?}; known codecs: fp32, fp16, qsgd, ecq")]
    UnknownCodec {
        /// The name.
        found: String,
    },
    /// The codec has no such key.
    #[error("codec {codec} has no key {found:?}; its keys: {known}")]
    UnknownKey {
        /// The codec.
        codec: &'static str,
        /// The key.
        found: String,
        /// What there is.
        known: String,
    },
    /// A key that stands twice.
    #[error("key {key:?} stands twice in the codec {text:?}")]
    Duplicate {
        /// The key.
        key: String,
        /// The text.
        text: String,
    },
    /// A part without `=`.
    #[error("{part:?} is not key=value in the codec {text:?}")]
    Malformed {
        /// The part.
        part: String,
        /// The text.
        text: String,
    },
    /// A value out of its range.
    #[error("{key}={found:?}: expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
}

const QSGD_KEYS: &[&str] = &["levels", "norm", "bucket", "coding"];
const ECQ_KEYS: &[&str] = &[
    "levels", "norm", "bucket", "alpha", "beta", "coding", "preset",
];

impl FromStr for CodecSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let (codec, known): (&'static str, &[&str]) = match name {
            "fp32" => ("fp32", &[]),
            "fp16" => ("fp16", &[]),
            "qsgd" => ("qsgd", QSGD_KEYS),
            "ecq" => ("ecq", ECQ_KEYS),
            _ => {
                return Err(SpecError::UnknownCodec {
                    found: name.to_owned(),
                });
            }
        };
        let settings = split(text, settings)?;
        for (i, (key, _)) in settings.iter().enumerate() {
            if !known.contains(key) {
                let known = if known.is_empty() {
                    "none".into()
                } else {
                    known.join(", ")
                };
                return Err(SpecError::UnknownKey {
                    codec,
                    found: (*key).to_owned(),
                    known,
                });
            }
            if settings[..i].iter().any(|(earlier, _)| earlier == key) {
                let (key, text) = ((*key).to_owned(), text.to_owned());
                return Err(SpecError::Duplicate { key, text });
            }
        }
        let preset = settings
            .iter()
            .find(|(key, _)| *key == "preset")
            .map(|(_, value)| *value);
        let (mut quantizer, mut gains) = preset.map_or(Ok(SAFE), self::preset)?;
        for (key, value) in settings {
            set(&mut quantizer, &mut gains, key, value)?;
        }
        Ok(match codec {
            "fp32" => Self::Fp32,
            "fp16" => Self::Fp16,
            "qsgd" => Self::Qsgd(quantizer),
            _ => Self::Ecq(quantizer, gains),
        })
    }
}

fn split<'a>(text: &str, settings: &'a str) -> Result<Vec<(&'a str, &'a str)>, SpecError> {
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

fn preset(name: &str) -> Result<(Uniform, Gains), SpecError> {
    let (safe, _) = SAFE;
    match name {
        "safe" => Ok(SAFE),
        "paper" => Ok((
            Uniform {
                norm: Norm::L2,
                ..safe
            },
            Gains {
                alpha: 0.2,
                beta: 0.9,
            },
        )),
        "one-level" => Ok((
            Uniform { levels: 1, ..safe },
            Gains {
                alpha: 0.38,
                beta: 1.0,
            },
        )),
        _ => Err(value("preset", name, "safe, paper or one-level")),
    }
}

fn set(quantizer: &mut Uniform, gains: &mut Gains, key: &str, text: &str) -> Result<(), SpecError> {
    match key {
        "levels" => {
            let levels = text
                .parse()
                .ok()
                .filter(|levels| (1..=127).contains(levels));
            quantizer.levels = levels.ok_or_else(|| value("levels", text, "1 to 127"))?;
        }
        "norm" => {
            quantizer.norm = match text {
                "linf" => Norm::Linf,
                "l2" => Norm::L2,
                _ => return Err(value("norm", text, "linf or l2")),
            }
        }
        "bucket" => {
            let bucket = if text == "tensor" {
                Some(0)
            } else {
                text.parse().ok().filter(|b| *b > 0)
            };
            let expected = "a number of elements from 1, or tensor";
            quantizer.bucket = bucket.ok_or_else(|| value("bucket", text, expected))?;
        }
        "coding" => {
            quantizer.coding = match text {
                "auto" => Coding::Auto,
                "pack" => Coding::Pack,
                "rans" => Coding::Rans,
                _ => return Err(value("coding", text, "auto, pack or rans")),
            }
        }
        "alpha" => gains.alpha = gain("alpha", text)?,
        "beta" => gains.beta = gain("beta", text)?,
        _ => {} // The preset: it was applied first.
    }
    Ok(())
}

fn gain(key: &'static str, text: &str) -> Result<f32, SpecError> {
    let gain = text.parse().ok().filter(|gain| (0.0..=1.0).contains(gain));
    gain.ok_or_else(|| value(key, text, "a number from 0 to 1"))
}

fn value(key: &'static str, found: &str, expected: &'static str) -> SpecError {
    SpecError::Value {
        key,
        found: found.to_owned(),
        expected,
    }
}

impl fmt::Display for CodecSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fp32 => f.write_str("fp32"),
            Self::Fp16 => f.write_str("fp16"),
            Self::Qsgd(quantizer) => write!(f, "qsgd:{quantizer}"),
            Self::Ecq(quantizer, Gains { alpha, beta }) => {
                write!(f, "ecq:{quantizer},alpha={alpha},beta={beta}")
            }
        }
    }
}

impl fmt::Display for Uniform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            levels,
            norm,
            bucket,
            coding,
        } = self;
        write!(f, "levels={levels},norm={norm},bucket=")?;
        if *bucket == 0 {
            f.write_str("tensor")?
        } else {
            write!(f, "{bucket}")?
        }
        write!(f, ",coding={coding}")
    }
}
