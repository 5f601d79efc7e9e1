//! Codecs as people write them.

mod build;
mod keys;
mod table;

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use crate::feedback::Gains;
use build::Method;
pub(crate) use build::{Budget, Method as CodecMethod};
use table::{CODECS, Entry};

/// A codec and all its settings.
///
/// Written `name` or `name:key=value,key=value`; [`CodecSpec::grammar`] explains all. `Display` gives
/// the canonical form: every
/// key but those that are off by default.
#[derive(Clone, Debug, PartialEq)]
pub struct CodecSpec {
    entry: &'static Entry,
    /// Every key with its canonical value.
    settings: Vec<(&'static str, String)>,
    method: Method,
    gains: Gains,
    momentum: f32,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl CodecSpec {
    /// The grammar, for help texts.
    pub fn grammar() -> &'static str {
        static GRAMMAR: LazyLock<String> = LazyLock::new(|| {
            let mut text = String::from(
                "CODEC is name or name:key=value,key=value,... with these names, keys and defaults:\n\n",
            );
            for entry in CODECS {
                let keys: Vec<String> = entry
                    .keys()
                    .filter(|(key, default)| {
                        !keys::FEEDBACK.contains(key) || (*key == "alpha" && *default == "1")
                    })
                    .map(|(key, default)| format!("{key}={default}"))
                    .collect();
                text += &format!("  {:<10}{}\n", entry.name, entry.about);
                if !keys.is_empty() {
                    text += &format!("{:12}{}\n", "", keys.join(" "));
                }
            }
            text + "\n" + keys::HELP
        });
        &GRAMMAR
    }

    /// Names of all codecs.
    pub fn names() -> impl Iterator<Item = &'static str> {
        CODECS.iter().map(|entry| entry.name)
    }

    /// The codec's name.
    pub fn name(&self) -> &'static str {
        self.entry.name
    }

    /// The codec's number in a frame's header.
    pub(crate) fn number(&self) -> u8 {
        self.entry.number
    }

    /// How values become bytes.
    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// The gains of the error feedback, if there is one: α is not 0.
    pub fn gains(&self) -> Option<Gains> {
        (self.gains.alpha != 0.0).then_some(self.gains)
    }

    /// Whether E q(v) = v.
    pub(crate) fn is_unbiased(&self) -> bool {
        matches!(&self.method, Method::Quantized { quantizer, .. } if quantizer.is_unbiased())
    }

    /// Factor of the momentum that the codec corrects for; 0: none.
    pub(crate) fn momentum(&self) -> f32 {
        self.momentum
    }

    /// CRC-32C of all that a receiver must know to decode: name and settings, but those of the
    /// feedback and the choice of the lossless code.
    pub(crate) fn fingerprint(&self) -> u32 {
        let sender_only =
            |key: &str| keys::FEEDBACK.contains(&key) || matches!(key, "coding" | "momentum");
        let mut text = self.entry.name.to_owned();
        for (key, value) in self.settings.iter().filter(|(key, _)| !sender_only(key)) {
            text += &format!(",{key}={value}");
        }
        crc32c::crc32c(text.as_bytes())
    }
}

/// A text that is no codec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No codec of this name.
    #[error("unknown codec {found:?}; known codecs: {known}")]
    UnknownCodec {
        /// The name.
        found: String,
        /// What there is.
        known: String,
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
    /// Values that exclude each other.
    #[error("the codec {text:?} cannot be: {reason}")]
    Contradiction {
        /// The text.
        text: String,
        /// Why not.
        reason: &'static str,
    },
}

impl FromStr for CodecSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (name, given) = text.split_once(':').unwrap_or((text, ""));
        let entry = table::entry(name).ok_or_else(|| SpecError::UnknownCodec {
            found: name.to_owned(),
            known: Self::names().collect::<Vec<_>>().join(", "),
        })?;
        let mut settings: Vec<(&'static str, String)> = entry
            .keys()
            .map(|(key, default)| (key, default.to_owned()))
            .collect();
        let given = keys::split(text, given)?;
        for (i, (key, _)) in given.iter().enumerate() {
            let is_preset = *key == "preset" && name == "ecq";
            if !is_preset && !settings.iter().any(|(known, _)| known == key) {
                return Err(unknown_key(entry, key));
            }
            if given[..i].iter().any(|(earlier, _)| earlier == key) {
                let (key, text) = ((*key).to_owned(), text.to_owned());
                return Err(SpecError::Duplicate { key, text });
            }
        }
        let preset = given.iter().find(|(key, _)| *key == "preset");
        let preset = preset.map_or(Ok(&[][..]), |(_, name)| keys::preset(name))?;
        let given = given.into_iter().filter(|(key, _)| *key != "preset");
        for (key, value) in preset.iter().copied().chain(given) {
            if let Some(place) = settings.iter_mut().find(|(known, _)| *known == key) {
                place.1 = keys::canonical(place.0, value)?;
            }
        }
        build::build(text, entry, settings)
    }
}

fn unknown_key(entry: &'static Entry, found: &str) -> SpecError {
    let mut known: Vec<&str> = entry.keys().map(|(key, _)| key).collect();
    if entry.name == "ecq" {
        known.push("preset");
    }
    SpecError::UnknownKey {
        codec: entry.name,
        found: found.to_owned(),
        known: if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        },
    }
}

impl fmt::Display for CodecSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry.name)?;
        let without_feedback = self.gains.alpha == 0.0 && self.entry.alpha == "0";
        let is_shown = |(key, value): &(&str, String)| match (*key, value.as_str()) {
            // What is off and would be off by itself.
            ("bits", "none") | ("momentum", "0") | ("guard", "on") => false,
            (key, _) => !(without_feedback && keys::FEEDBACK.contains(&key)),
        };
        let shown = self.settings.iter().filter(|setting| is_shown(setting));
        for (i, (key, value)) in shown.enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}
