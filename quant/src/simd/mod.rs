//! Run-time choice of instructions.
//!
//! Kernels come in two kinds. Most are written once, over slices and arrays of lanes, and compiled
//! three times by [`kernel!`]: the compiler vectorises each for its instruction set. The inner loops of
//! stochastic rounding, of the entropy coder and its groups of symbols, and of what looks up values have
//! versions in intrinsics beside a portable reference. In both kinds every path performs the same
//! operations in the same order, so that all give the same bytes; nothing is contracted, since Rust never
//! fuses a multiplication with an addition unasked.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

use std::fmt;
use std::sync::OnceLock;

/// The instructions that the kernels use. A value exists only for what this CPU has, which is what
/// makes calling the kernels sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Simd(Path);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Path {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Instructions asked for that are not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimdError {
    /// No such name.
    #[error("unknown instruction set {0:?}: expected auto, avx512, avx2 or portable")]
    Unknown(String),
    /// This CPU lacks it.
    #[error("this CPU has no {0}; it has {1}")]
    Unavailable(&'static str, String),
}

impl Simd {
    /// What every CPU has.
    pub const PORTABLE: Self = Self(Path::Portable);

    /// The fastest path of this CPU.
    pub fn best() -> Self {
        static BEST: OnceLock<Simd> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self::PORTABLE))
    }

    /// All paths of this CPU, the fastest last.
    pub fn available() -> &'static [Self] {
        static AVAILABLE: OnceLock<Vec<Simd>> = OnceLock::new();
        AVAILABLE.get_or_init(|| {
            let mut paths = vec![Self::PORTABLE];
            #[cfg(target_arch = "x86_64")]
            {
                if avx2::detected() {
                    paths.push(Self(Path::Avx2));
                    if avx512::detected() {
                        paths.push(Self(Path::Avx512));
                    }
                }
            }
            paths
        })
    }

    /// The path of this name: `auto`, `avx512`, `avx2` or `portable`.
    pub fn named(name: &str) -> Result<Self, SimdError> {
        if name == "auto" {
            return Ok(Self::best());
        }
        let known = ["portable", "avx2", "avx512"];
        let Some(known) = known.into_iter().find(|known| *known == name) else {
            return Err(SimdError::Unknown(name.to_owned()));
        };
        let found = Self::available().iter().find(|simd| simd.name() == known);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = Self::available().iter().map(|simd| simd.name()).collect();
            SimdError::Unavailable(known, names.join(", "))
        })
    }

    /// The path's name.
    pub fn name(self) -> &'static str {
        match self.0 {
            Path::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => "avx512",
        }
    }

    pub(crate) fn path(self) -> Path {
        self.0
    }
}

impl fmt::Display for Simd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Elements between those at work, a group of 512 or so, and the first that are asked for: memory takes longer
/// than a group does.
pub(crate) const PREFETCH_LEAD: usize = 256;

/// Asks for the memory of an element that will be read soon, if there is one.
#[inline(always)]
#[allow(unsafe_code, reason = "a hint reads nothing and cannot fault")]
pub(crate) fn prefetch(values: &[f32], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(value) = values.get(index) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 CPU has the instruction, and it is a hint.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, index);
}

/// Defines a function that takes a [`Simd`] before its arguments and runs its body compiled for
/// those instructions.
macro_rules! kernel {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident$(<const $n:ident: $nt:ty>)?($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    ) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments, reason = "calls by instruction set")]
        $vis fn $name$(<const $n: $nt>)?(simd: $crate::simd::Simd, $($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn portable$(<const $n: $nt>)?($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
            #[allow(clippy::too_many_arguments)]
            fn avx2$(<const $n: $nt>)?($($arg: $type),*) $(-> $result)? {
                portable$(::<$n>)?($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
            #[allow(clippy::too_many_arguments)]
            fn avx512$(<const $n: $nt>)?($($arg: $type),*) $(-> $result)? {
                portable$(::<$n>)?($($arg),*)
            }

            match simd.path() {
                $crate::simd::Path::Portable => portable$(::<$n>)?($($arg),*),
                // SAFETY: a `Simd` exists only for instructions that were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Path::Avx2 => unsafe { avx2$(::<$n>)?($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Path::Avx512 => unsafe { avx512$(::<$n>)?($($arg),*) },
            }
        }
    };
}
pub(crate) use kernel;
