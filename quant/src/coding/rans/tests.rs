use super::*;
use proptest::prelude::*;

fn encoded(simd: Simd, alphabet: usize, symbols: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xee];
    let mut scratch = Scratch::default();
    let fill = (alphabet / 2) as u8;
    prepare(simd, &mut scratch, alphabet, fill, symbols, &mut bytes).encode(
        simd,
        &mut scratch,
        &mut bytes,
    );
    bytes.split_off(1)
}

/// Through the coder and back on every path; the bytes are those of the portable one.
fn round_trip(alphabet: usize, symbols: &[u8]) -> usize {
    let bytes = encoded(Simd::PORTABLE, alphabet, symbols);
    assert!(bytes.len() <= bytes_max(alphabet, symbols.len()));
    for simd in Simd::available() {
        assert_eq!(encoded(*simd, alphabet, symbols), bytes, "{simd}");
        let mut found = vec![0xaa; symbols.len()];
        let mut scratch = Scratch::default();
        assert_eq!(
            decode(*simd, &mut scratch, alphabet, &bytes, &mut found),
            Ok(())
        );
        assert_eq!(found, symbols, "{simd}");
    }
    bytes.len()
}

/// A stream with these weights of symbols, in a fixed pseudo-random order.
fn stream(weights: &[u32], count: u32) -> Vec<u8> {
    let total: u32 = weights.iter().sum();
    let draw = |i: u32| {
        let mut x = i.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
        x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
        x = (x ^ x >> 13).wrapping_mul(0xc2b2_ae35);
        let mut rest = (x >> 8) % total;
        weights
            .iter()
            .position(|w| rest.checked_sub(*w).map(|r| rest = r).is_none())
    };
    (0..count)
        .map(|i| draw(i).expect("a draw is below the total") as u8)
        .collect()
}

fn entropy_bits(symbols: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    symbols.iter().for_each(|s| counts[usize::from(*s)] += 1);
    let n = symbols.len() as f64;
    let bits = |c: &u32| f64::from(*c) * (n / f64::from(*c)).log2();
    counts.iter().filter(|c| **c > 0).map(bits).sum()
}

#[test]
fn large_streams_come_within_two_percent_of_their_entropy() {
    let weights: [&[u32]; 8] = [
        &[1, 1],
        &[1, 2, 5, 10, 20, 10, 5, 2, 1],
        &[1, 1, 1],
        &[1, 4, 1],
        &[1, 20, 1],
        &[1, 48, 1],
        &[1, 30, 300, 1000, 300, 30, 1],
        &[
            3, 7, 19, 50, 120, 200, 120, 50, 19, 7, 3, 2, 1, 1, 1, 1, 1, 1,
        ],
    ];
    for weights in weights {
        let symbols = stream(weights, 1 << 20);
        let bytes = round_trip(weights.len(), &symbols) as f64;
        let entropy = entropy_bits(&symbols) / 8.0;
        assert!(bytes <= 1.018 * entropy, "{weights:?}: {}", bytes / entropy);
    }
}

/// Groups of symbols that keep together cost less than single symbols would.
#[test]
fn neighbours_that_resemble_each_other_are_cheaper_than_order_zero() {
    let dense = stream(&[1, 1, 1], 1 << 19);
    let sparse = stream(&[1, 30, 1], 1 << 19);
    let symbols = [dense, sparse].concat();
    let bytes = round_trip(3, &symbols) as f64;
    assert!(bytes < 0.93 * entropy_bits(&symbols) / 8.0, "{bytes}");
}

/// The division of the vector kernels, where it is hardest: at the edges of quotients.
#[test]
fn every_number_of_slots_divides_exactly_on_every_path() {
    for slots in 1..SLOTS {
        let mut model = Model { slots: [0; 256] };
        model.slots[7] = slots as u16;
        model.slots[ESCAPE] = (SLOTS - slots) as u16;
        let table = EncodeTable::new(&model);
        let largest = (slots << 19) - 1;
        let edge = largest - largest % slots;
        let starts = [
            LOWEST,
            LOWEST + slots - LOWEST % slots - 1,
            edge - 1,
            edge,
            largest,
            largest / 2,
        ];
        let begin: [u32; 16] =
            std::array::from_fn(|i| starts[i % 6].clamp(LOWEST, largest.max(LOWEST)));
        let run = |encode: &dyn Fn(&mut [u32], &mut Stack<'_>)| {
            let (mut states, mut words, mut escapes) = (begin, vec![0; 64], vec![0; 64]);
            let mut stack = Stack {
                words: &mut words,
                height: 0,
                escapes: &mut escapes,
                escaped: 0,
            };
            encode(&mut states, &mut stack);
            let height = stack.height;
            (states, height, words[..height].to_vec())
        };
        let groups = [7; 16];
        let expected = run(&|states, stack| portable::encode(&table, &groups, states, stack));
        for simd in Simd::available() {
            let found = run(&|states, stack| match simd.path() {
                Path::Portable => portable::encode(&table, &groups, states, stack),
                #[cfg(target_arch = "x86_64")]
                Path::Avx2 => avx2::encode(*simd, &table, &groups, states, stack),
                #[cfg(target_arch = "x86_64")]
                Path::Avx512 => avx512::encode(*simd, &table, &groups, states, stack),
            });
            assert_eq!(found, expected, "{simd}, {slots} slots");
        }
    }
}

#[test]
fn rare_symbols_beside_many_frequent_ones_survive() {
    // 127 symbols have shares of exactly 32 each, another has a little less, and the rest occurs
    // once each.
    for alphabet in [255, 201, 129] {
        let rare = usize::from(alphabet - 128);
        let frequent = (0..127).flat_map(|symbol| std::iter::repeat_n(symbol, 20_000));
        let last = std::iter::repeat_n(127, 20_000 - rare);
        let symbols: Vec<u8> = frequent.chain(last).chain(128..alphabet).collect();
        let bytes = round_trip(usize::from(alphabet), &symbols) as f64;
        assert!(
            bytes < 1.03 * entropy_bits(&symbols) / 8.0 + 600.0,
            "{bytes}"
        );
    }
}

#[test]
fn degenerate_streams_survive() {
    assert_eq!(round_trip(3, &[]), 0);
    round_trip(3, &[2]);
    round_trip(255, &[254; 5]);
    assert!(
        round_trip(9, &[4; 100_000]) < 100,
        "one symbol carries no information"
    );
    let all: Vec<u8> = (0..255).collect();
    round_trip(255, &all);
    let mut rare = vec![1; 500_000];
    rare[77] = 0;
    rare[78] = 2;
    round_trip(3, &rare);
    // Nor is what has no slot below what has: byte values beyond 64 among smaller ones.
    let mut rare = vec![0; 100_000];
    rare[6 * 64 + 5] = 1;
    round_trip(2, &rare);
    // Nothing that is counted predicts the rest: all of it escapes.
    let mut unseen = vec![3; 300_000];
    for run in unseen.chunks_mut(128).skip(1).step_by(2) {
        run.fill(1);
    }
    round_trip(9, &unseen);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_symbols_survive(
        alphabet in 2usize..=255,
        raw in proptest::collection::vec(any::<u8>(), 0..900),
        skew in 1u8..=255,
        repeat in prop::sample::select(vec![1, 1, 1, 300]),
    ) {
        let fold = |r: &u8| (usize::from(r % skew) % alphabet) as u8;
        let symbols: Vec<u8> = raw.iter().map(fold).collect::<Vec<u8>>().repeat(repeat);
        round_trip(alphabet, &symbols);
    }

    #[test]
    fn any_bytes_decode_to_the_same_everywhere_or_are_an_error(
        alphabet in 2usize..256,
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        count in 0usize..600,
        edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
    ) {
        let mut valid = encoded(Simd::PORTABLE, 3, &stream(&[1, 3, 1], 70_000));
        for (at, value) in edits {
            let at = usize::from(at) % valid.len();
            valid[at] = value;
        }
        for (alphabet, bytes, count) in [(alphabet, &bytes, count), (3, &valid, 70_000)] {
            let mut expected = vec![0; count];
            let mut scratch = Scratch::default();
            let outcome = decode(Simd::PORTABLE, &mut scratch, alphabet, bytes, &mut expected);
            for simd in Simd::available() {
                let mut found = vec![0; count];
                let other = decode(*simd, &mut scratch, alphabet, bytes, &mut found);
                prop_assert_eq!(&other, &outcome);
                if other.is_ok() {
                    prop_assert_eq!(&found, &expected);
                    prop_assert!(found.iter().all(|symbol| usize::from(*symbol) < alphabet));
                }
            }
        }
    }
}

/// A model without any byte value, in either form: its escape would have one slot more than tables have bits for.
#[test]
fn a_model_of_nothing_is_refused() {
    for form in [0, 1] {
        let zeros = if form == 0 { 2 } else { 242 };
        let bytes = [&[form, 0, zeros, 1, 0][..], &LOWEST.to_le_bytes().repeat(4)].concat();
        let scratch = &mut Scratch::default();
        let found = decode(Simd::best(), scratch, 3, &bytes, &mut [0; 5]);
        let expected = DecodeError::Symbols("the model has nothing but the escape");
        assert_eq!(found, Err(expected), "form {form}");
    }
}
