//! All codecs, their keys and defaults: the one place that parser, canonical form and help share.

/// A codec as the table has it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    /// Its number in a frame's header.
    pub(super) number: u8,
    /// What it is, and after which paper.
    pub(super) about: &'static str,
    /// Keys with their defaults, in canonical order; those of the feedback follow.
    pub(super) keys: &'static [(&'static str, &'static str)],
    /// Default of α: 0 where the published method has no error feedback, otherwise 1.
    pub(super) alpha: &'static str,
}

impl Entry {
    /// All keys with their defaults, in canonical order.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        let feedback = [("alpha", self.alpha), ("beta", "1"), ("guard", "on")];
        let feedback = feedback.into_iter().filter(|_| self.name != "fp32");
        self.keys.iter().copied().chain(feedback)
    }
}

pub(super) fn entry(name: &str) -> Option<&'static Entry> {
    CODECS.iter().find(|entry| entry.name == name)
}

macro_rules! codecs {
    ($($number:literal $name:literal $about:literal alpha=$alpha:literal $($key:ident=$default:literal)*;)*) => {
        &[$(Entry {
            name: $name,
            number: $number,
            about: $about,
            keys: &[$((stringify!($key), $default)),*],
            alpha: $alpha,
        }),*]
    };
}

pub(super) const CODECS: &[Entry] = codecs! {
    0 "fp32" "32-bit floats, the baseline" alpha="0";
    1 "fp16" "16-bit floats (binary16), saturating" alpha="0";
    4 "bf16" "16-bit floats with the exponent of 32-bit ones" alpha="0";
    5 "fp8" "8-bit floats, e4m3 or e5m2, scaled to the group's largest" alpha="0"
        format="e4m3" bucket="tensor" coding="auto";
    6 "int8" "255 uniform levels, nearest" alpha="0"
        bucket="512" coding="auto";
    2 "qsgd" "uniform levels, stochastic rounding (Alistarh et al. 2017)" alpha="0"
        levels="4" norm="linf" bucket="512" coding="auto" bits="none";
    3 "ecq" "qsgd behind error feedback (ECQ-SGD, Wu et al. 2018)" alpha="1"
        levels="4" norm="linf" bucket="512" coding="auto" bits="none";
    7 "terngrad" "ternary, clipped, stochastic (Wen et al. 2017)" alpha="0"
        clip="2.5" bucket="tensor" coding="auto";
    8 "deadzone" "nearest level of step x rms, least-squares gain: the best rate with feedback" alpha="1"
        step="2.5" levels="3" escape="on" bucket="512" coding="auto" bits="none";
    9 "dither" "uniform levels, subtractive dither from the shared seed" alpha="0"
        levels="4" norm="linf" bucket="512" coding="auto";
    10 "nuqsgd" "levels 1, 1/2, 1/4, ... stochastic (Ramezani-Kebrya et al. 2021)" alpha="0"
        levels="4" norm="l2" bucket="512" coding="auto";
    11 "alq" "levels fitted to the gradient, stochastic (Faghri et al. 2020)" alpha="0"
        levels="4" norm="l2" bucket="512" coding="auto";
    12 "natural" "powers of two, stochastic (natural compression, Horvath et al. 2019)" alpha="0"
        bucket="tensor" coding="auto";
    13 "log" "powers of base, nearest in logarithms (LogNet, Lee et al. 2017)" alpha="1"
        levels="7" base="2" norm="linf" bucket="512" coding="auto";
    14 "minifloat" "a small float's numbers, scaled to the group's largest" alpha="1"
        format="e2m1" rounding="nearest" bucket="512" coding="auto";
    15 "sign" "signs with their mean magnitude (EF-signSGD, Karimireddy et al. 2019)" alpha="1"
        bucket="512" coding="auto";
    16 "onebit" "signs with the mean of either (1-bit SGD, Seide et al. 2014)" alpha="1"
        bucket="512" coding="auto";
    17 "topk" "the largest fraction of each group (Lin et al. 2018)" alpha="1"
        fraction="0.01" values="fp32" bucket="tensor" momentum="0" coding="auto";
    18 "randomk" "a fraction drawn from the shared seed (Stich et al. 2018)" alpha="1"
        fraction="0.01" values="fp32" bucket="tensor" momentum="0";
    19 "threshold" "what exceeds so many rms of its group (after Strom 2015)" alpha="1"
        at="1.5" values="fp32" bucket="tensor" momentum="0" coding="auto";
    20 "powersgd" "low-rank factors with warm start (Vogels et al. 2019)" alpha="1"
        rank="2";
};
