use super::*;
use proptest::prelude::*;

proptest! {
    /// Every path gives the same bits, for every size of table and every length.
    #[test]
    fn all_paths_agree_to_the_bit(
        alphabet in prop::sample::select(vec![2_usize, 3, 8, 9, 16, 17, 32, 33, 255]),
        raw in proptest::collection::vec((any::<u8>(), -2.0_f32..2.0, -2.0_f32..2.0), 0..200),
        carry in prop::sample::select(vec![0.0_f32, -0.1, 0.7]),
    ) {
        let mut table = Table::default();
        for (i, value) in table.values.iter_mut().enumerate() {
            *value = (i as f32 - 5.0) * 0.37;
        }
        let symbols: Vec<u8> = raw.iter().map(|r| (usize::from(r.0) % alphabet) as u8).collect();
        let floats = |of: fn(&(u8, f32, f32)) -> f32| raw.iter().map(of).collect::<Vec<f32>>();
        let (values, residual) = (floats(|r| r.1), floats(|r| r.2));
        let run = |simd: Simd| {
            let (mut sum, mut h) = (residual.clone(), residual.clone());
            let given = Accumulate {
                alphabet,
                table: &table,
                symbols: &symbols,
                ahead: &values,
            };
            accumulate(simd, &given, &mut sum);
            let given = Remember {
                alphabet,
                table: &table,
                carry,
                values: &values,
                symbols: &symbols,
                ahead: [&residual, &values],
            };
            let sums = remember(simd, &given, &mut h);
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            (bits(sum), bits(h), bits(vec![sums.error, sums.residual]))
        };
        let expected = run(Simd::PORTABLE);
        for simd in Simd::available() {
            prop_assert_eq!(run(*simd), expected.clone(), "{}", simd);
        }
        for (i, symbol) in symbols.iter().enumerate() {
            let error = values[i] - table.values[usize::from(*symbol)];
            let next = if carry == 0.0 { error } else { carry * residual[i] + error };
            prop_assert_eq!(expected.1[i], next.to_bits());
        }
    }
}
