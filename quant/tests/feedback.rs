//! Error feedback: nothing is lost, and what is stable and what is not.

mod gradients;

use ecq_quant::{Encoder, Layout};
use gradients::{SEED, decode, encode, gaussian, norm_squared, round_trip, spec};

const COUNT: usize = 4096;

/// Runs a codec over fresh Gaussian gradients; returns the encoder and the sums of what was
/// computed and applied.
fn run(text: &str, steps: u64) -> (Encoder, Vec<f64>, Vec<f64>) {
    let spec = spec(text);
    let mut encoder = Encoder::new(&spec, &Layout::new([COUNT]), SEED);
    let (mut computed, mut applied) = (vec![0.0; COUNT], vec![0.0; COUNT]);
    for step in 0..steps {
        let gradient = gaussian(step, COUNT);
        let (frame, _) = encode(&mut encoder, step, &gradient);
        let sent = decode(&spec, step, &frame, COUNT);
        computed
            .iter_mut()
            .zip(&gradient)
            .for_each(|(sum, g)| *sum += f64::from(*g));
        applied
            .iter_mut()
            .zip(&sent)
            .for_each(|(sum, q)| *sum += f64::from(*q));
    }
    (encoder, computed, applied)
}

/// Invariant 3: for β = 1, applied + residual = computed, whatever α is.
#[test]
fn no_gradient_is_lost() {
    for text in [
        "ecq",
        "ecq:levels=1,alpha=0.38",
        "ecq:norm=l2,alpha=0.2,beta=1,bucket=tensor",
    ] {
        let (encoder, computed, applied) = run(text, 60);
        let residual = encoder.residual();
        for i in 0..COUNT {
            let missing = computed[i] - applied[i] - f64::from(residual[i]);
            assert!(missing.abs() < 1e-3, "{text}: element {i} lacks {missing}");
        }
        assert!(
            norm_squared(residual) > 0.0,
            "the test has something to find"
        );
    }
}

/// With β < 1 some error is forgotten, and the sums part.
#[test]
fn forgetting_is_visible() {
    let (encoder, computed, applied) = run("ecq:alpha=0.2,beta=0.9", 60);
    let missing = |i: usize| computed[i] - applied[i] - f64::from(encoder.residual()[i]);
    let forgotten: f64 = (0..COUNT).map(|i| missing(i).powi(2)).sum::<f64>() / COUNT as f64;
    assert!(forgotten > 0.01, "{forgotten}");
}

/// A rule in circulation reads "q = Quan(g + qe); qe ← Quan(g + qe) − g": the sign is that of the
/// error of the other direction, so that errors grow instead of being taken back. The implemented
/// rule stays bounded under the same quantizer and gradients.
#[test]
fn the_misquoted_rule_diverges_and_the_implemented_one_does_not() {
    let mut misquoted = vec![0.0_f32; COUNT];
    let mut encoder = Encoder::new(&spec("ecq"), &Layout::new([COUNT]), SEED);
    for step in 0..300 {
        let gradient = gaussian(step, COUNT);
        encode(&mut encoder, step, &gradient);
        let sum: Vec<f32> = gradient
            .iter()
            .zip(&misquoted)
            .map(|(g, e)| g + e)
            .collect();
        let sent = round_trip("qsgd", &sum);
        misquoted = sent.iter().zip(&gradient).map(|(q, g)| q - g).collect();
    }
    let per_element = |values: &[f32]| norm_squared(values) / COUNT as f64;
    assert!(
        per_element(encoder.residual()) < 0.2,
        "{}",
        per_element(encoder.residual())
    );
    assert!(
        per_element(&misquoted) > 100.0,
        "{}",
        per_element(&misquoted)
    );
}

/// E‖h‖² = ω‖g‖²/(1 − λ), λ = (β − α)² + α²ω.
#[test]
fn the_residual_is_as_large_as_predicted() {
    for (text, omega, alpha, beta) in [
        ("ecq", 0.112, 1.0, 1.0),
        ("ecq:levels=1,alpha=0.2,beta=0.9", 1.60, 0.2, 0.9),
        ("ecq:norm=l2,levels=4,alpha=0.2,beta=0.9", 3.51, 0.2, 0.9),
        ("ecq:norm=l2,levels=4,alpha=0.2,beta=1", 3.51, 0.2, 1.0),
        ("ecq:norm=l2,levels=16", 0.334, 1.0, 1.0),
    ] {
        let spec = spec(text);
        let mut encoder = Encoder::new(&spec, &Layout::new([COUNT]), SEED);
        let mut sum = 0.0;
        for step in 0..160 {
            let (_, stats) = encode(&mut encoder, step, &gaussian(step, COUNT));
            if step >= 80 {
                sum += stats.residual_norm_squared / stats.gradient_norm_squared / 80.0;
            }
        }
        let carry: f64 = beta - alpha;
        let lambda = carry * carry + alpha * alpha * omega;
        let predicted = omega / (1.0 - lambda);
        assert!(
            (sum / predicted - 1.0).abs() < 0.1,
            "{text}: {sum}, predicted {predicted}"
        );
    }
}

/// Where λ > 1 the residual grows without bound. It never becomes anything but a number: groups
/// that overflow are sent as zeros.
#[test]
fn forbidden_combinations_diverge() {
    for text in [
        "ecq:norm=l2,levels=1,guard=off",
        "ecq:norm=l2,levels=4,guard=off",
        "ecq:norm=l2,alpha=0.5,beta=1,guard=off",
    ] {
        let (encoder, _, _) = run(text, 60);
        let ratio = norm_squared(encoder.residual()) / COUNT as f64;
        assert!(ratio > 1e3, "{text}: {ratio}");
        assert!(encoder.residual().iter().all(|h| h.is_finite()));
    }
}

/// ECQ without its past is QSGD, but for the codec's number, its fingerprint and the checksum.
#[test]
fn without_alpha_it_is_qsgd() {
    let gradient = gaussian(1, COUNT);
    let frame = |text: &str| {
        let mut encoder = Encoder::new(&spec(text), &Layout::new([COUNT]), SEED);
        encode(&mut encoder, 3, &gaussian(9, COUNT));
        encode(&mut encoder, 4, &gradient).0
    };
    let (mut ecq, mut qsgd) = (frame("ecq:alpha=0"), frame("qsgd"));
    for frame in [&mut ecq, &mut qsgd] {
        frame[3] = 0;
        frame[28..36].fill(0);
    }
    assert!(ecq == qsgd, "the same bytes");
}
