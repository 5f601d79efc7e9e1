//! Every sample once an epoch, whoever takes it.

use ecq_nn::Sampler;
use proptest::prelude::*;

fn take(sampler: &mut Sampler, position: u64, count: usize) -> Vec<usize> {
    let mut indices = Vec::new();
    sampler.indices(position, count, &mut indices);
    indices
}

proptest! {
    /// Invariant 7, for any history of views: whatever sizes and batches follow one another.
    #[test]
    fn an_epoch_visits_each_sample_once(
        seed: u64,
        samples in 1usize..200,
        views in proptest::collection::vec((1u64..6, 1usize..20, 1u64..5), 1..8),
    ) {
        let mut taken = Vec::new();
        let mut consumed = 0;
        let mut members: Vec<Sampler> = (0..6).map(|_| Sampler::new(seed, samples)).collect();
        for (size, batch, steps) in views {
            for _ in 0..steps {
                for (rank, sampler) in members.iter_mut().take(size as usize).enumerate() {
                    taken.extend(take(sampler, consumed + (rank * batch) as u64, batch));
                }
                consumed += size * batch as u64;
            }
        }
        for epoch in taken.chunks_exact(samples) {
            let mut epoch = epoch.to_vec();
            epoch.sort_unstable();
            prop_assert_eq!(epoch, (0..samples).collect::<Vec<_>>());
        }
    }

    #[test]
    fn it_is_a_pure_function_of_the_position(seed: u64, positions: Vec<u16>) {
        let mut used = Sampler::new(seed, 37);
        for position in positions {
            let position = u64::from(position);
            let fresh = take(&mut Sampler::new(seed, 37), position, 5);
            prop_assert_eq!(take(&mut used, position, 5), fresh);
        }
    }
}

#[test]
fn epochs_and_seeds_differ() {
    let mut sampler = Sampler::new(1, 1000);
    let first = take(&mut sampler, 0, 1000);
    assert_ne!(first, take(&mut sampler, 1000, 1000));
    assert_ne!(first, take(&mut Sampler::new(2, 1000), 0, 1000));
    assert_ne!(first, (0..1000).collect::<Vec<_>>());
}
