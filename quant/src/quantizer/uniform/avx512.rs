//! Stochastic rounding in AVX-512.

#![allow(unsafe_code, reason = "calls by instruction set")]

use std::arch::x86_64::*;

use super::stochastic::{ANCHOR, Lanes, ROW, Run, Scaled, finish};
use crate::rounding::{Rounding, STRIDE};
use crate::simd::avx512::{load, load_bytes, load_floats, store_floats, store_half};
use crate::simd::{Path, Simd, prefetch};

/// See [`super::stochastic::stochastic`]; gives the sums.
pub(super) fn stochastic(simd: Simd, group: &Scaled, run: Run<'_>) -> Lanes {
    assert_eq!(
        simd.path(),
        Path::Avx512,
        "what makes the calls below sound"
    );
    // SAFETY: a `Simd` of this path exists only where the CPU has the instructions.
    unsafe {
        match (group.carry != 0.0, group.levels <= 7) {
            (true, true) => whole_rows::<true, true>(simd, group, run),
            (true, false) => whole_rows::<true, false>(simd, group, run),
            (false, true) => whole_rows::<false, true>(simd, group, run),
            (false, false) => whole_rows::<false, false>(simd, group, run),
        }
    }
}

/// What `FEW` levels are worth, a register says.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx2,bmi2,popcnt")]
fn whole_rows<const CARRIES: bool, const FEW: bool>(
    simd: Simd,
    group: &Scaled,
    run: Run<'_>,
) -> Lanes {
    let (first, ahead) = (run.first, run.ahead);
    let (rows, rest) = run.split();
    let rows = rows.values.iter().zip(rows.symbols).zip(rows.residual);
    let float = |x: f32| _mm512_set1_ps(x);
    let (per_unit, middle, most) = (
        float(group.per_unit),
        float(group.middle),
        float(group.most),
    );
    let (anchor, unit, carry) = (float(ANCHOR), float(group.unit), float(group.carry));
    let zero = _mm512_set1_epi32(group.zero);
    let fraction = _mm_cvtsi32_si128(group.fraction as i32);
    let high = _mm_cvtsi32_si128(32 - group.fraction as i32);
    let below = _mm512_set1_epi32((1 << group.fraction) - 1);
    let table = load_floats(&group.values());
    let together = load_bytes(&TOGETHER);
    let mut words = Words::new(group.rounding, first);
    let (mut errors, mut residuals) = (_mm512_setzero_ps(), _mm512_setzero_ps());
    for (i, ((v, symbols), h)) in rows.enumerate() {
        let x = words.next();
        // The last step of the hash leaves the upper half as it is, and only the lower needs it.
        let lower = _mm512_xor_si512(x, _mm512_srli_epi32::<16>(x));
        let random = [_mm512_and_si512(lower, below), _mm512_srl_epi32(x, high)];
        let (v, h) = (v.as_chunks::<16>().0, h.as_chunks_mut::<16>().0);
        let mut found = [_mm512_setzero_si512(); 2];
        for half in 0..2 {
            prefetch(ahead[0], ROW * i + 16 * half);
            prefetch(ahead[1], ROW * i + 16 * half);
            let v = load_floats(&v[half]);
            let number = _mm512_add_ps(_mm512_mul_ps(v, per_unit), middle);
            let number = _mm512_max_ps(_mm512_min_ps(number, most), anchor);
            let number = _mm512_add_epi32(_mm512_castps_si512(number), random[half]);
            found[half] = _mm512_srl_epi32(number, fraction);
            let value = if FEW {
                // The lowest bits of a number are its symbol: ANCHOR's are zeros.
                _mm512_permutexvar_ps(found[half], table)
            } else {
                _mm512_mul_ps(
                    _mm512_cvtepi32_ps(_mm512_sub_epi32(found[half], zero)),
                    unit,
                )
            };
            let error = _mm512_sub_ps(v, value);
            errors = _mm512_add_ps(errors, _mm512_mul_ps(error, error));
            if CARRIES {
                let next = _mm512_add_ps(_mm512_mul_ps(carry, load_floats(&h[half])), error);
                residuals = _mm512_add_ps(residuals, _mm512_mul_ps(next, next));
                store_floats(next, &mut h[half]);
            } else {
                store_floats(error, &mut h[half]);
            }
        }
        store_half(
            _mm512_permutex2var_epi8(found[0], together, found[1]),
            symbols,
        );
    }
    let mut sums = Lanes::default();
    store_floats(errors, &mut sums[0]);
    store_floats(residuals, &mut sums[1]);
    finish(simd, group, rest, sums)
}

/// The lowest bytes of two vectors' lanes.
static TOGETHER: [u8; 64] = {
    let mut places = [0; 64];
    let mut at = 0;
    while at < 32 {
        places[at] = 4 * at as u8;
        at += 1;
    }
    places
};

/// See [`Rounding::words`], of which these are every other row.
struct Words {
    place: __m512i,
    stride: __m512i,
    keys: [__m512i; 2],
}

impl Words {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(rounding: Rounding, first: u32) -> Self {
        let places = Rounding::places(first);
        Self {
            place: load(&places),
            stride: _mm512_set1_epi32(STRIDE.wrapping_mul(ROW as u32) as i32),
            keys: rounding.keys().map(|key| _mm512_set1_epi32(key as i32)),
        }
    }

    /// Words before the last step of the hash.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn next(&mut self) -> __m512i {
        let x = _mm512_xor_si512(self.place, self.keys[0]);
        self.place = _mm512_add_epi32(self.place, self.stride);
        let x = _mm512_xor_si512(x, _mm512_srli_epi32::<16>(x));
        let x = _mm512_mullo_epi32(x, _mm512_set1_epi32(Rounding::FACTORS[0] as i32));
        let x = _mm512_xor_si512(x, _mm512_srli_epi32::<15>(x));
        let x = _mm512_add_epi32(x, self.keys[1]);
        _mm512_mullo_epi32(x, _mm512_set1_epi32(Rounding::FACTORS[1] as i32))
    }
}
