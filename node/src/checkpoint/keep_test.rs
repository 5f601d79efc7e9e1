//! Checkpoints are whole or not at all, and no more than wanted.

use super::*;
use ecq_quant::{Encoder, FrameId};

fn rules() -> Rules {
    let mut rules = crate::rules::tests::digits("softmax");
    (rules.config.checkpoint_every, rules.config.keep_checkpoints) = (Some(5), 2);
    rules
}

/// An encoder that remembers something.
fn encoder(rules: &Rules, step: Step) -> Encoder {
    let mut encoder = Encoder::new(&rules.codec, &rules.layout, 0);
    let elements = rules.replica.parameters.len();
    let gradient: Vec<f32> = (0..elements)
        .map(|i| (i as f32 + step as f32).sin())
        .collect();
    let id = FrameId {
        step,
        rank: 1,
        bucket: 0,
    };
    encoder.encode(id, 1, 0..elements, &gradient, &mut Vec::new());
    encoder
}

fn checkpoints(rules: &Rules, dir: &Path) -> Checkpoints {
    Checkpoints::new(&rules.config, Some(dir)).expect("the run keeps some")
}

#[test]
fn what_was_kept_is_taken_up_and_the_oldest_goes() {
    let dir = tempfile::tempdir().expect("there is room");
    let mut rules = rules();
    let checkpoints = checkpoints(&rules, dir.path());
    assert!(checkpoints.kept(false).expect("none").is_empty());
    assert!(checkpoints.due(10) && !checkpoints.due(11));
    let mut digests = Vec::new();
    for step in [5, 10, 15] {
        rules.replica.parameters[7] = step as f32;
        digests.push(rules.replica.digest());
        let encoder = encoder(&rules, step);
        checkpoints
            .keep(step, (3, 1), &rules, &encoder)
            .expect("there is room");
    }
    let kept = |step, digest| Kept {
        step,
        rank: 1,
        view: 3,
        digest,
    };
    let found = checkpoints.kept(true).expect("they are readable");
    assert_eq!(found, [kept(10, digests[1]), kept(15, digests[2])]);
    let mut taken = Encoder::new(&rules.codec, &rules.layout, 0);
    let up = checkpoints.take_up(10, 1, &mut rules, &mut taken);
    up.expect("it is there");
    assert_eq!(rules.replica.digest(), digests[1]);
    assert_eq!(taken.residual(), encoder(&rules, 10).residual());
    let found = checkpoints.kept(true).expect("they are readable");
    assert_eq!(
        found,
        [kept(10, digests[1])],
        "what came later is made anew"
    );
    let occupied = checkpoints
        .kept(false)
        .expect_err("a run that begins has none");
    assert!(occupied.to_string().contains("--resume"), "{occupied}");
}

#[test]
fn a_byte_that_differs_anywhere_is_found() {
    let dir = tempfile::tempdir().expect("there is room");
    let mut rules = rules();
    let checkpoints = checkpoints(&rules, dir.path());
    let memory = encoder(&rules, 5);
    checkpoints
        .keep(5, (1, 0), &rules, &memory)
        .expect("there is room");
    for name in [MODEL, STATE] {
        let path = checkpoints.path(5, 0).join(name);
        let whole = fs::read(&path).expect("it is there");
        let length = u64::from_le_bytes(*whole.first_chunk().expect("a header")) as usize;
        // The header, the tensors that the digest covers, and an end that is missing.
        let mut header = whole.clone();
        header[9] ^= 1;
        // A fact that could be one.
        let mut fact = whole.clone();
        let text = String::from_utf8_lossy(&whole[8..8 + length]).into_owned();
        let place = text.find("\"step").expect("it says so") + 8;
        let digit = text[place..].find(|c: char| c.is_ascii_digit());
        fact[8 + place + digit.expect("a number")] ^= 1;
        let mut tensor = whole.clone();
        let last = if name == MODEL {
            whole.len() - 1
        } else {
            8 + length
        };
        tensor[last] ^= 1;
        for bytes in [
            header,
            fact,
            tensor,
            whole[..whole.len() - 4].to_vec(),
            Vec::new(),
        ] {
            fs::write(&path, &bytes).expect("there is room");
            let offered = checkpoints.kept(true).expect("the directory is readable");
            assert!(offered.is_empty(), "{name}: {offered:?}");
            let mut taken = Encoder::new(&rules.codec, &rules.layout, 0);
            let up = checkpoints.take_up(5, 0, &mut rules, &mut taken);
            let error = up
                .map(|()| bytes.len())
                .expect_err("it is not whole")
                .to_string();
            assert!(error.contains("step-00000005.rank-0"), "{error}");
        }
        fs::write(&path, whole).expect("there is room");
        assert_eq!(checkpoints.kept(true).map_or(0, |kept| kept.len()), 1);
    }
}
