//! Whatever is said, in whatever order: no machine panics, ends twice or acts after its end.

use ecq_cluster::coordinator::{self, Coordinator};
use ecq_cluster::node::{self, Node};
use ecq_cluster::{
    Decision, Digest, Failure, Fingerprint, FrameKey, Hello, Installation, Kept, Member, Quorum,
    Refusal, Residual, RunConfig, ToCoordinator, ToNode, View,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn digest() -> impl Strategy<Value = Digest> {
    (0..2_u8).prop_map(|byte| Digest([byte; 32]))
}

/// Small numbers, so that they often mean something, and now and then the largest.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0..4_u64, 1 => Just(u64::MAX)]
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 0..4_u32, 1 => Just(u32::MAX)]
}

fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    let fields = (digest(), prop_oneof![9 => Just(0_u8), 1 => Just(1)]);
    fields.prop_map(|(replica, data)| Fingerprint {
        replica,
        data: Digest([data; 32]),
        parameters: 1,
        samples: 1,
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    Just(Failure::Stopped("told to".into()))
}

fn hello() -> impl Strategy<Value = Hello> {
    proptest::option::of(small()).prop_map(|rank| Hello {
        run: None,
        rank,
        version: "1".into(),
        address: String::new(),
        observe: false,
        residual: rank.map(|rank| Residual {
            node: u64::from(rank),
            first: 0,
        }),
    })
}

fn kept() -> impl Strategy<Value = Vec<Kept>> {
    let one = (number(), small(), number(), digest());
    let one = one.prop_map(|(step, rank, view, digest)| Kept {
        step,
        rank,
        view,
        digest,
    });
    proptest::collection::vec(one, 0..3)
}

fn to_coordinator() -> impl Strategy<Value = ToCoordinator> {
    prop_oneof![
        4 => hello().prop_map(ToCoordinator::Hello),
        4 => (fingerprint(), kept()).prop_map(|(fingerprint, kept)| {
            ToCoordinator::Prepared { fingerprint, kept }
        }),
        2 => (number(), any::<bool>()).prop_map(|(view, frozen)| {
            ToCoordinator::Return { node: 1, view, frozen }
        }),
        1 => Just(ToCoordinator::Heartbeat),
        2 => (number(), digest()).prop_map(|(step, digest)| ToCoordinator::Digest { step, digest }),
        1 => (number(), small()).prop_map(|(view, rank)| {
            ToCoordinator::PeerLost { view, rank, reason: String::new() }
        }),
        2 => (number(), digest()).prop_map(|(view, digest)| {
            ToCoordinator::Finished { view, steps: 1, digest }
        }),
        4 => (number(), number()).prop_map(|(view, next)| ToCoordinator::Frozen { view, next }),
        2 => number().prop_map(|view| ToCoordinator::CaughtUp { view }),
        1 => failure().prop_map(ToCoordinator::Leave),
        2 => (number(), failure())
            .prop_map(|(step, failure)| ToCoordinator::Depart { step, failure }),
    ]
}

fn coordinator_event() -> impl Strategy<Value = coordinator::Event> {
    use coordinator::Event;
    prop_oneof![
        20 => (0..4_u64, to_coordinator())
            .prop_map(|(from, message)| Event::Message { from, message }),
        1 => (0..4_u64).prop_map(Event::Disconnected),
        4 => number().prop_map(Event::Persisted),
        1 => Just(Event::Stop(String::new())),
        4 => Just(Event::Tick),
    ]
}

fn view() -> impl Strategy<Value = View> {
    (number(), number(), vec(0..4_u64, 0..4)).prop_map(|(number, first_step, nodes)| {
        let member = |node| Member {
            node,
            address: String::new(),
        };
        let members = nodes.into_iter().map(member).collect();
        View {
            number,
            first_step,
            consumed: 0,
            members,
        }
    })
}

fn installation() -> impl Strategy<Value = Installation> {
    (view(), any::<bool>(), any::<bool>()).prop_map(|(view, hold, supply)| Installation {
        supply: view.members.iter().filter(|_| supply).cloned().collect(),
        lacking: view.first_step.saturating_sub(1),
        restore: (hold && supply).then_some(0),
        view,
        hold,
    })
}

fn node_event() -> impl Strategy<Value = node::Event> {
    use node::Event;
    let said = prop_oneof![
        4 => (0..4_u64).prop_map(|node| ToNode::Welcome { node, config: String::new(), begun: true }),
        8 => installation().prop_map(ToNode::Install),
        4 => number().prop_map(|view| ToNode::Freeze { view }),
        4 => (view(), small(), proptest::option::of(number()))
            .prop_map(|(view, donor, residual)| ToNode::Follow { view, donor, residual }),
        2 => (number(), 0..4_u64).prop_map(|(view, node)| {
            let observer = Member { node, address: String::new() };
            ToNode::Observe { view, observer }
        }),
        1 => failure().prop_map(ToNode::Excluded),
        1 => Just(ToNode::Refused(Refusal::Full { nodes: 1 })),
        1 => Just(ToNode::End),
        1 => failure().prop_map(ToNode::Abort),
    ];
    let quorum = proptest::option::of((1..3_u32, 0..100_u64));
    let prepared = (fingerprint(), 1..3_u32, 1..4_u64, 1..3_u64, quorum);
    let decision = (number(), number(), vec(small(), 0..4));
    let frame = (number(), number(), small(), small());
    prop_oneof![
        9 => said.prop_map(Event::Message),
        5 => prepared.prop_map(|(fingerprint, buckets, steps, digest_every, quorum)| Event::Prepared {
            fingerprint, buckets, steps, digest_every,
            quorum: quorum.map(|(least, wait)| Quorum { least, wait }), kept: Vec::new(),
        }),
        6 => decision.prop_map(|(view, step, ranks)| Event::Decision(Decision { view, step, ranks })),
        4 => number().prop_map(Event::Linked),
        4 => (number(), small(), number())
            .prop_map(|(view, rank, first)| Event::Opened { view, rank, first }),
        4 => (number(), number(), digest())
            .prop_map(|(view, next, digest)| Event::Snapshot { view, next, digest }),
        1 => number().prop_map(|view| Event::NotFetched { view, reason: String::new() }),
        12 => frame.prop_map(|(view, step, rank, bucket)| {
            Event::Frame(FrameKey { view, step, rank, bucket })
        }),
        6 => (number(), number()).prop_map(|(view, step)| Event::Contributed { view, step }),
        4 => (number(), proptest::option::of(digest()))
            .prop_map(|(step, digest)| Event::Applied { step, digest }),
        2 => Just(Event::Delivered),
        1 => (number(), small()).prop_map(|(view, rank)| {
            Event::PeerLost { view, rank, reason: String::new() }
        }),
        1 => Just(Event::CoordinatorLost(String::new())),
        1 => Just(Event::Reconnected),
        1 => Just(Event::CoordinatorGone(String::new())),
        1 => failure().prop_map(Event::Failed),
        2 => failure().prop_map(Event::Stop),
        4 => Just(Event::Tick),
    ]
}

const CONFIG: &str = r#"
name = "any"
nodes = 2
min-nodes = 1
data = ""
model = ""
hidden = []
codec = ""
steps = 1
batch-size = 1
lr = 1.0
lr-schedule = ""
momentum = 0.0
seed = 0
digest-every = 1
lease-seconds = 1.0
record = false
"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_coordinator_concludes_once_and_says_nothing_more(
        events in vec((0..1500_u64, coordinator_event()), 0..60),
        history in proptest::option::of(vec(view(), 0..3)),
        made in 0..2_u64,
        found in fingerprint(),
        checkpoint_every in proptest::option::of(1..3_u64),
    ) {
        let config = RunConfig::from_toml(CONFIG).expect("it is complete");
        let config = RunConfig { checkpoint_every, ..config };
        let (text, version) = (String::new(), "1".to_owned());
        let mut machine = match history {
            Some(views) => Coordinator::resume(&config, text, version, views, made, Some(found)),
            None => Coordinator::new(&config, text, version),
        };
        let (mut now, mut over) = (0, false);
        for (passed, event) in events {
            now += passed / 20;
            let mut out = Vec::new();
            machine.handle(now, event, &mut out);
            prop_assert!(!over || out.is_empty());
            let ends = |command: &_| matches!(command, coordinator::Command::Conclude(_));
            if let Some(place) = out.iter().position(ends) {
                prop_assert_eq!(place + 1, out.len(), "nothing follows");
                over = true;
            }
            prop_assert!(!over || machine.deadline().is_none());
        }
    }

    #[test]
    fn a_node_exits_once_and_does_nothing_more(
        events in vec((0..200_u64, node_event()), 0..60)
    ) {
        let hello = Hello { run: None, rank: None, version: "1".into(), address: String::new(), observe: false, residual: None };
        let mut machine = Node::new(0, hello, 100, &mut Vec::new());
        let (mut now, mut over) = (0, false);
        for (passed, event) in events {
            now += passed;
            let mut out = Vec::new();
            machine.handle(now, event, &mut out);
            prop_assert!(!over || out.is_empty());
            let ends = |command: &_| matches!(command, node::Command::Exit(_));
            if let Some(place) = out.iter().position(ends) {
                prop_assert_eq!(place + 1, out.len(), "nothing follows");
                over = true;
            }
            prop_assert!(over || machine.deadline().is_some_and(|deadline| deadline > now));
        }
    }
}
