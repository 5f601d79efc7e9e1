//! Stochastic rounding in AVX2.

#![allow(unsafe_code, reason = "calls by instruction set")]

use std::arch::x86_64::*;

use super::stochastic::{ANCHOR, Lanes, ROW, Run, Scaled, finish};
use crate::rounding::{Rounding, STRIDE};
use crate::simd::avx2::{load, load_floats, store_bytes, store_floats};
use crate::simd::{Path, Simd, prefetch};

/// See [`super::stochastic::stochastic`]; gives the sums.
pub(super) fn stochastic(simd: Simd, group: &Scaled, run: Run<'_>) -> Lanes {
    assert_eq!(simd.path(), Path::Avx2, "what makes the calls below sound");
    // SAFETY: a `Simd` of this path exists only where the CPU has the instructions.
    unsafe {
        match (group.carry != 0.0, group.levels <= 3) {
            (true, true) => whole_rows::<true, true>(simd, group, run),
            (true, false) => whole_rows::<true, false>(simd, group, run),
            (false, true) => whole_rows::<false, true>(simd, group, run),
            (false, false) => whole_rows::<false, false>(simd, group, run),
        }
    }
}

/// What `FEW` levels are worth, a register says.
#[target_feature(enable = "avx2,bmi2,popcnt")]
fn whole_rows<const CARRIES: bool, const FEW: bool>(
    simd: Simd,
    group: &Scaled,
    run: Run<'_>,
) -> Lanes {
    let (first, ahead) = (run.first, run.ahead);
    let (rows, rest) = run.split();
    let rows = rows.values.iter().zip(rows.symbols).zip(rows.residual);
    let float = |x: f32| _mm256_set1_ps(x);
    let (per_unit, middle) = (float(group.per_unit), float(group.middle));
    let (anchor, most) = (float(ANCHOR), float(group.most));
    let (unit, carry) = (float(group.unit), float(group.carry));
    let zero = _mm256_set1_epi32(group.zero);
    let fraction = _mm_cvtsi32_si128(group.fraction as i32);
    let high = _mm_cvtsi32_si128(32 - group.fraction as i32);
    let below = _mm256_set1_epi32((1 << group.fraction) - 1);
    let table = load_floats(&group.values());
    let mut words = Words::new(group.rounding, first);
    // Sixteen lanes in two vectors, as on every path.
    let (mut errors, mut residuals) = ([_mm256_setzero_ps(); 2], [_mm256_setzero_ps(); 2]);
    for (i, ((v, symbols), h)) in rows.enumerate() {
        let mut found = [_mm256_setzero_si256(); 4];
        let words = words.next();
        let (v, h) = (v.as_chunks::<8>().0, h.as_chunks_mut::<8>().0);
        for at in 0..4 {
            let (half, side) = (at / 2, at % 2);
            if side == 0 {
                prefetch(ahead[0], ROW * i + 16 * half);
                prefetch(ahead[1], ROW * i + 16 * half);
            }
            // The last step of the hash leaves the upper half as it is, and only the lower needs it.
            let x = words[side];
            let random = if half == 0 {
                _mm256_and_si256(_mm256_xor_si256(x, _mm256_srli_epi32::<16>(x)), below)
            } else {
                _mm256_srl_epi32(x, high)
            };
            let v = load_floats(&v[at]);
            let number = _mm256_add_ps(_mm256_mul_ps(v, per_unit), middle);
            let number = _mm256_max_ps(_mm256_min_ps(number, most), anchor);
            let number = _mm256_add_epi32(_mm256_castps_si256(number), random);
            found[at] = _mm256_srl_epi32(number, fraction);
            let value = if FEW {
                // The lowest bits of a number are its symbol: ANCHOR's are zeros.
                _mm256_permutevar8x32_ps(table, found[at])
            } else {
                _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(found[at], zero)), unit)
            };
            let error = _mm256_sub_ps(v, value);
            errors[side] = _mm256_add_ps(errors[side], _mm256_mul_ps(error, error));
            if CARRIES {
                let next = _mm256_add_ps(_mm256_mul_ps(carry, load_floats(&h[at])), error);
                residuals[side] = _mm256_add_ps(residuals[side], _mm256_mul_ps(next, next));
                store_floats(next, &mut h[at]);
            } else {
                store_floats(error, &mut h[at]);
            }
        }
        store_bytes(lowest_bytes(found), symbols);
    }
    let mut sums = Lanes::default();
    for (lanes, sums) in sums.iter_mut().zip([errors, residuals]) {
        for (lanes, sum) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
            store_floats(sum, lanes);
        }
    }
    finish(simd, group, rest, sums)
}

/// The lowest byte of each lane.
#[inline]
#[target_feature(enable = "avx2")]
fn lowest_bytes(lanes: [__m256i; 4]) -> __m256i {
    let [a, b, c, d] = lanes.map(|lanes| _mm256_and_si256(lanes, _mm256_set1_epi32(255)));
    let (ab, cd) = (_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
    // Packing leaves the vectors' lower halves in one half, and the upper ones in the other.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_permutevar8x32_epi32(_mm256_packus_epi16(ab, cd), order)
}

/// See [`Rounding::words`], of which these are every other row.
struct Words {
    places: [__m256i; 2],
    stride: __m256i,
    keys: [__m256i; 2],
}

impl Words {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(rounding: Rounding, first: u32) -> Self {
        let places = Rounding::places(first);
        let halves = places.as_chunks::<8>().0;
        Self {
            places: [load(&halves[0]), load(&halves[1])],
            stride: _mm256_set1_epi32(STRIDE.wrapping_mul(ROW as u32) as i32),
            keys: rounding.keys().map(|key| _mm256_set1_epi32(key as i32)),
        }
    }

    /// Words before the last step of the hash.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn next(&mut self) -> [__m256i; 2] {
        let words = self.places.map(|place| {
            let x = _mm256_xor_si256(place, self.keys[0]);
            let x = _mm256_xor_si256(x, _mm256_srli_epi32::<16>(x));
            let x = _mm256_mullo_epi32(x, _mm256_set1_epi32(Rounding::FACTORS[0] as i32));
            let x = _mm256_xor_si256(x, _mm256_srli_epi32::<15>(x));
            let x = _mm256_add_epi32(x, self.keys[1]);
            _mm256_mullo_epi32(x, _mm256_set1_epi32(Rounding::FACTORS[1] as i32))
        });
        self.places = self
            .places
            .map(|place| _mm256_add_epi32(place, self.stride));
        words
    }
}
