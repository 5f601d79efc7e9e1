//! The data plane over real sockets on loopback.

use std::time::Duration;

use bytes::Bytes;
use ecq_cluster::{FrameKey, Member, View};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{Broadcast, Gate, Incoming, Meter, Plan, link};
use crate::driver::Input;

const DEADLINE: Duration = Duration::from_secs(60);
const FRAME_BYTES: usize = 4 << 20;

/// A receiving node of rank 1 and a sender of rank 0 linked to it.
struct Pair {
    _receiver: Incoming,
    arrivals: mpsc::Receiver<Input>,
    sender: Broadcast,
    sender_events: mpsc::Receiver<Input>,
    sent: Meter,
}

async fn listen() -> (Incoming, mpsc::Receiver<Input>, String) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let (events, arrivals) = mpsc::channel(4);
    let incoming = Incoming::serve(listener, Meter::default(), events).expect("it listens");
    let address = incoming.address().to_string();
    (incoming, arrivals, address)
}

fn gate() -> Gate {
    Gate {
        run: "run".into(),
        view: 1,
        members: 2,
        rank: 1,
        frame_bytes_max: FRAME_BYTES as u64,
    }
}

fn plan(address: &str, view: u64) -> Plan {
    let member = |node, address: &str| Member {
        node,
        address: address.to_owned(),
    };
    let members = vec![member(1, "127.0.0.1:1"), member(2, address)];
    Plan {
        run: "run".into(),
        view: View {
            number: view,
            first_step: 0,
            members,
        },
        rank: 0,
        chunks: 32,
        patience: DEADLINE,
    }
}

async fn pair() -> Pair {
    let (receiver, arrivals, address) = listen().await;
    receiver.open(gate());
    let sent = Meter::default();
    let (events, sender_events) = mpsc::channel(4);
    let sender = link(plan(&address, 1), &sent, &events)
        .await
        .expect("the receiver listens");
    Pair {
        _receiver: receiver,
        arrivals,
        sender,
        sender_events,
        sent,
    }
}

async fn next(arrivals: &mut mpsc::Receiver<Input>) -> Input {
    let next = tokio::time::timeout(DEADLINE, arrivals.recv())
        .await
        .expect("in time");
    next.expect("the sending end lives")
}

fn lost(input: Input) -> (u32, String) {
    match input {
        Input::PeerLost { rank, reason } => (rank, reason),
        _ => panic!("expected the loss of a peer"),
    }
}

/// T16: messages stay below gRPC's default limit however large the model is.
async fn stream(frames: u32, frame: Bytes) {
    let Pair {
        mut arrivals,
        sender,
        sent,
        _receiver,
        ..
    } = pair().await;
    let payload = frame.clone();
    let sending = std::thread::spawn(move || {
        for bucket in 0..frames {
            sender.send(7, bucket, &payload);
        }
        sender
    });
    for bucket in 0..frames {
        let Input::Frame(key, found) = next(&mut arrivals).await else {
            panic!("a frame")
        };
        assert_eq!(
            key,
            FrameKey {
                view: 1,
                step: 7,
                rank: 0,
                bucket
            }
        );
        assert_eq!(found.len(), frame.len());
        if bucket == 0 {
            assert_eq!(found, frame);
        }
    }
    drop(sending.join());
    let payload = u64::from(frames) * frame.len() as u64;
    let overhead = sent
        .bytes()
        .checked_sub(payload)
        .expect("all of it crossed the socket");
    assert!(
        overhead < payload / 1000,
        "{overhead} bytes of framing for {payload}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_of_64_mib_streams_in_chunks() {
    let frame = (0..FRAME_BYTES).map(|i| ((i * 7) >> 5) as u8).collect();
    stream(16, frame).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_of_3_gib_streams_in_chunks() {
    stream(768, Bytes::from(vec![1; FRAME_BYTES])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_wait_until_the_receiver_has_its_view() {
    let (receiver, mut arrivals, address) = listen().await;
    let (events, _sender_events) = mpsc::channel(4);
    let sender = link(plan(&address, 1), &Meter::default(), &events)
        .await
        .expect("it listens");
    let sending = std::thread::spawn(move || {
        sender.send(0, 0, &Bytes::from_static(b"early"));
        sender
    });
    let _sender = sending.join().expect("the queue has room");
    assert!(arrivals.try_recv().is_err(), "nothing passes a closed gate");
    receiver.open(gate());
    let Input::Frame(key, frame) = next(&mut arrivals).await else {
        panic!("a frame")
    };
    assert_eq!((key.step, &frame[..]), (0, &b"early"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_in_order_is_confirmed_once_all_of_it_is_there() {
    let Pair {
        mut arrivals,
        sender,
        mut sender_events,
        _receiver,
        ..
    } = pair().await;
    let frame = Bytes::from_static(b"the last");
    let sending = std::thread::spawn(move || sender.send(9, 0, &frame));
    let Input::Frame(key, _) = next(&mut arrivals).await else {
        panic!("a frame")
    };
    assert_eq!(key.step, 9);
    let Input::Received { rank: 1 } = next(&mut sender_events).await else {
        panic!("received")
    };
    assert!(arrivals.try_recv().is_err(), "nobody is lost");
    sending.join().expect("the queue has room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_takes_no_more_frames_is_reported() {
    let Pair {
        arrivals,
        sender,
        mut sender_events,
        _receiver,
        ..
    } = pair().await;
    drop(arrivals);
    let sending = std::thread::spawn(move || {
        sender.send(0, 0, &Bytes::from_static(b"nobody listens"));
        sender
    });
    let (rank, _) = lost(next(&mut sender_events).await);
    assert_eq!(rank, 1);
    let _sender = sending.join().expect("the queue has room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_turned_away_and_nobody_counts_as_lost() {
    let (receiver, mut arrivals, address) = listen().await;
    receiver.open(gate());
    let strangers = [
        (plan(&address, 2), "view 1, not 2"),
        (
            Plan {
                run: "other".into(),
                ..plan(&address, 1)
            },
            "not \"other\"",
        ),
    ];
    for (plan, expected) in strangers {
        let (events, mut told) = mpsc::channel(4);
        let _sender = link(plan, &Meter::default(), &events)
            .await
            .expect("it listens");
        let (_, reason) = lost(next(&mut told).await);
        assert!(reason.contains(expected), "{reason}");
    }
    assert!(
        arrivals.try_recv().is_err(),
        "a stranger's stream means nothing to the run"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_over_the_bound_ends_the_stream() {
    let Pair {
        mut arrivals,
        sender,
        _receiver,
        ..
    } = pair().await;
    let sending = std::thread::spawn(move || {
        sender.send(0, 0, &Bytes::from(vec![0; FRAME_BYTES + 1]));
        sender
    });
    let (rank, reason) = lost(next(&mut arrivals).await);
    assert_eq!(rank, 0);
    assert!(reason.contains("at most 4194304"), "{reason}");
    let _sender = sending
        .join()
        .expect("a broken stream does not block its sender");
}
