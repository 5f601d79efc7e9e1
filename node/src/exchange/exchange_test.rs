//! The data plane over real sockets on loopback.

use std::time::Duration;

use bytes::Bytes;
use ecq_cluster::{Decision, Digest, FrameKey, Member};
use ecq_proto::v1::exchange_client::ExchangeClient;
use ecq_proto::v1::exchange_server::{Exchange, ExchangeServer};
use ecq_proto::v1::{FrameChunk, FrameHeader, Received, SnapshotChunk, SnapshotRequest};
use ecq_quant::{CodecSpec, Encoder, FrameId, Layout};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use super::chunk::{self, Counter};
use super::outgoing::alive;
use super::{
    Broadcast, Gate, Incoming, Meter, Plan, Snapshot, Source, fetch, link, stream as stream_to,
    supply,
};
use crate::driver::Input;

const DEADLINE: Duration = Duration::from_secs(60);
const FRAME_BYTES: usize = 4 << 20;

/// The frame of rank 0 for a bucket of so many bytes, header included, whose elements are all alike.
fn frame(step: u64, bucket: u32, bytes: usize) -> Bytes {
    frame_of(0, step, bucket, bytes)
}

fn frame_of(rank: u32, step: u64, bucket: u32, bytes: usize) -> Bytes {
    let spec: CodecSpec = "fp32".parse().expect("it is a codec");
    let shape = [(bytes - 32) / 4];
    let layout = Layout::of_shapes([&shape]);
    let id = FrameId { step, rank, bucket };
    let mut frame = Vec::new();
    let gradient = vec![0.1; shape[0]];
    Encoder::new(&spec, &layout, 0).encode(id, 1, 0..shape[0], &gradient, &mut frame);
    assert_eq!(frame.len(), bytes);
    frame.into()
}

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
        rank: Some(1),
        frame_bytes_max: FRAME_BYTES as u64,
        silence: DEADLINE,
    }
}

fn plan(view: u64) -> Plan {
    Plan {
        run: "run".into(),
        view,
        rank: 0,
        chunks: 32,
        steps: 2,
        patience: DEADLINE,
    }
}

fn members(address: &str) -> Vec<Member> {
    let member = |node, address: &str| Member {
        node,
        address: address.to_owned(),
    };
    vec![member(1, "127.0.0.1:1"), member(2, address)]
}

async fn pair() -> Pair {
    let (receiver, arrivals, address) = listen().await;
    receiver.open(gate());
    let sent = Meter::default();
    let (events, sender_events) = mpsc::channel(4);
    let sender = link(plan(1), members(&address), &sent, &events)
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
        Input::PeerLost { rank, reason, .. } => (rank, reason),
        _ => panic!("expected the loss of a peer"),
    }
}

/// T16: messages stay below gRPC's default limit however large the model is.
async fn stream(frames: u32) {
    let Pair {
        mut arrivals,
        mut sender,
        mut sender_events,
        sent,
        _receiver,
    } = pair().await;
    let sending = std::thread::spawn(move || {
        for bucket in 0..frames {
            sender.send(7, bucket, &frame(7, bucket, FRAME_BYTES));
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
        assert_eq!(found.len(), FRAME_BYTES);
        if bucket == 0 {
            assert_eq!(found, frame(7, bucket, FRAME_BYTES));
        }
    }
    drop(sending.join());
    // Only who knows that all has arrived has counted all.
    let Input::Received { .. } = next(&mut sender_events).await else {
        panic!("received")
    };
    let payload = u64::from(frames) * FRAME_BYTES as u64;
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
    stream(16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_of_3_gib_streams_in_chunks() {
    stream(768).await;
}

/// T17: on a link of any round trip two steps of megabytes are under way at once. Nothing that the
/// receiver says after its first frame gets back, so that all of them must fit into the windows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_are_wide_enough_for_any_round_trip() {
    let (receiver, mut arrivals, address) = listen().await;
    receiver.open(gate());
    let link_listener = TcpListener::bind("127.0.0.1:0").await.expect("it is free");
    let through = link_listener.local_addr().expect("it listens").to_string();
    let (silence, mut silenced) = tokio::sync::watch::channel(false);
    let passing = tokio::spawn(async move {
        let (near, _) = link_listener.accept().await.expect("the sender connects");
        let far = TcpStream::connect(address).await.expect("it listens");
        let (mut near_read, mut near_write) = near.into_split();
        let (mut far_read, mut far_write) = far.into_split();
        let there = tokio::io::copy(&mut near_read, &mut far_write);
        let back = async {
            let silent = async { silenced.wait_for(|silent| *silent).await.is_ok() };
            tokio::select! {
                _ = tokio::io::copy(&mut far_read, &mut near_write) => {}
                _ = silent => {}
            }
        };
        let (_until_aborted, ()) = tokio::join!(there, back);
    });
    let (events, _sender_events) = mpsc::channel(4);
    let mut sender = link(plan(1), members(&through), &Meter::default(), &events)
        .await
        .expect("it listens");
    let (go, gone) = std::sync::mpsc::channel();
    let sending = std::thread::spawn(move || {
        sender.send(0, 0, &frame(0, 0, 40));
        gone.recv().expect("the test goes on");
        for bucket in 0..3 {
            sender.send(1, bucket, &frame(1, bucket, FRAME_BYTES));
        }
        sender
    });
    let Input::Frame(..) = next(&mut arrivals).await else {
        panic!("a frame")
    };
    silence.send(true).expect("the link is there");
    go.send(()).expect("the sender is there");
    for _ in 0..3 {
        let Input::Frame(..) = next(&mut arrivals).await else {
            panic!("a frame")
        };
    }
    let _sender = sending.join().expect("the queue has room");
    passing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_wait_until_the_receiver_has_its_view() {
    let (receiver, mut arrivals, address) = listen().await;
    let (events, _sender_events) = mpsc::channel(4);
    let mut sender = link(plan(1), members(&address), &Meter::default(), &events)
        .await
        .expect("it listens");
    let sending = std::thread::spawn(move || {
        sender.send(0, 0, &frame(0, 0, 40));
        sender
    });
    let _sender = sending.join().expect("the queue has room");
    assert!(arrivals.try_recv().is_err(), "nothing passes a closed gate");
    receiver.open(gate());
    let Input::Frame(key, found) = next(&mut arrivals).await else {
        panic!("a frame")
    };
    assert_eq!((key.step, found), (0, frame(0, 0, 40)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_in_order_is_confirmed_once_all_of_it_is_there() {
    let Pair {
        mut arrivals,
        mut sender,
        mut sender_events,
        _receiver,
        ..
    } = pair().await;
    let sending = std::thread::spawn(move || sender.send(9, 0, &frame(9, 0, 40)));
    let Input::Frame(key, _) = next(&mut arrivals).await else {
        panic!("a frame")
    };
    assert_eq!(key.step, 9);
    let Input::Received { view: 1, rank: 1 } = next(&mut sender_events).await else {
        panic!("received")
    };
    assert!(arrivals.try_recv().is_err(), "nobody is lost");
    sending.join().expect("the queue has room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_takes_no_more_frames_is_reported() {
    let Pair {
        arrivals,
        mut sender,
        mut sender_events,
        _receiver,
        ..
    } = pair().await;
    drop(arrivals);
    let sending = std::thread::spawn(move || {
        sender.send(0, 0, &frame(0, 0, 40));
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
        (plan(0), "view 1, not 0"),
        (
            Plan {
                run: "other".into(),
                ..plan(1)
            },
            "not \"other\"",
        ),
    ];
    for (plan, expected) in strangers {
        let (events, mut told) = mpsc::channel(4);
        let _sender = link(plan, members(&address), &Meter::default(), &events)
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
        mut sender,
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

/// Neither a damaged frame nor one in another's place reaches the state machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_is_not_what_was_sent_ends_the_stream() {
    let mut damaged = frame(3, 0, 400).to_vec();
    damaged[200] ^= 1;
    for (bytes, expected) in [
        (damaged.into(), "checksum"),
        (frame(4, 0, 400), "step"),
        (frame_of(2, 3, 0, 400), "rank"),
        (frame(3, 1, 400), "bucket"),
        (Bytes::from_static(b"short"), "truncated"),
    ] {
        let Pair {
            mut arrivals,
            mut sender,
            mut sender_events,
            _receiver,
            ..
        } = pair().await;
        let sending = std::thread::spawn(move || {
            sender.send(3, 0, &bytes);
            sender
        });
        let (rank, reason) = lost(next(&mut arrivals).await);
        assert_eq!(rank, 0);
        assert!(reason.contains(expected), "{reason}");
        let (rank, reason) = lost(next(&mut sender_events).await);
        assert_eq!(rank, 1);
        assert!(reason.contains(expected), "{reason}");
        let _sender = sending.join().expect("the queue has room");
    }
}

/// What makes a receiver believe in an end that there was not, such as a flipped bit, is no reception.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_confirmed_before_its_end_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("it is free");
    let address = listener.local_addr().expect("it listens").to_string();
    let streams = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let hasty = ExchangeServer::new(Hasty);
    let server = tonic::transport::Server::builder().add_service(hasty);
    let serving = tokio::spawn(server.serve_with_incoming(streams));
    let (events, mut told) = mpsc::channel(4);
    let _sender = link(plan(1), members(&address), &Meter::default(), &events)
        .await
        .expect("it listens");
    let (rank, reason) = lost(next(&mut told).await);
    assert_eq!(rank, 1);
    assert!(reason.contains("took the stream for ended"), "{reason}");
    serving.abort();
}

/// Confirms streams that have only begun.
struct Hasty;

#[tonic::async_trait]
impl Exchange for Hasty {
    async fn contribute(
        &self,
        _request: Request<Streaming<FrameChunk>>,
    ) -> Result<Response<Received>, Status> {
        Ok(Response::new(Received {}))
    }

    type SnapshotStream = tokio_stream::Empty<Result<SnapshotChunk, Status>>;

    async fn snapshot(
        &self,
        _request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::unimplemented("it has none"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_gets_whole_contributions_from_the_first_that_was_announced() {
    let Pair {
        arrivals: _arrivals,
        mut sender,
        _receiver,
        ..
    } = pair().await;
    let (follower, mut follows, address) = listen().await;
    follower.open(Gate {
        rank: None,
        ..gate()
    });
    let to = Member { node: 3, address };
    sender
        .voice()
        .add(stream_to(plan(1), to, 5, &Meter::default()));
    let sending = std::thread::spawn(move || {
        for step in [4, 5] {
            sender.send(step, 0, &frame(step, 0, 40));
        }
        sender
    });
    let Input::Opened {
        view: 1,
        rank: 0,
        first: 5,
    } = next(&mut follows).await
    else {
        panic!("the stream says from where on it is complete");
    };
    let Input::Frame(key, _) = next(&mut follows).await else {
        panic!("a frame")
    };
    assert_eq!((key.step, key.rank), (5, 0));
    let _sender = sending.join().expect("the queues have room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_keep_up_learns_that_its_stream_ended_and_holds_nobody_up() {
    let Pair {
        mut arrivals,
        mut sender,
        _receiver,
        ..
    } = pair().await;
    // It takes the stream, but nothing reads what comes of it.
    let (follower, mut follows, address) = listen().await;
    follower.open(Gate {
        rank: None,
        ..gate()
    });
    let to = Member { node: 3, address };
    sender
        .voice()
        .add(stream_to(plan(1), to, 0, &Meter::default()));
    let sending = std::thread::spawn(move || {
        for step in 0..200 {
            sender.send(step, 0, &frame(step, 0, FRAME_BYTES));
        }
        sender
    });
    for step in 0..200 {
        let Input::Frame(key, _) = next(&mut arrivals).await else {
            panic!("the member gets every frame")
        };
        assert_eq!(key.step, step);
    }
    let _sender = sending.join().expect("nobody waits for who follows");
    loop {
        match next(&mut follows).await {
            Input::PeerLost { rank: 0, .. } => break,
            Input::Opened { .. } | Input::Frame(..) => {}
            _ => panic!("nothing else comes"),
        }
    }
}

#[tokio::test]
async fn a_closed_server_leaves_its_address_to_the_next() {
    for _ in 0..20 {
        let (incoming, _arrivals, address) = listen().await;
        incoming.close().await;
        TcpListener::bind(&address).await.expect("it is free");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_lacks_is_forwarded_in_its_owners_name() {
    let (receiver, mut arrivals, address) = listen().await;
    receiver.open(Gate {
        members: 3,
        ..gate()
    });
    let key = FrameKey {
        view: 1,
        step: 7,
        rank: 2,
        bucket: 0,
    };
    let frames = vec![(key, frame_of(2, 7, 0, 40))];
    supply(plan(1), Vec::new(), frames, &address, &Meter::default())
        .await
        .expect("it is taken");
    let Input::Frame(found, _) = next(&mut arrivals).await else {
        panic!("a frame")
    };
    assert_eq!(found, key);
}

/// It had them after all, or it would not be where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_gone_on_needs_no_supply() {
    let (receiver, _arrivals, address) = listen().await;
    receiver.open(Gate { view: 2, ..gate() });
    supply(plan(1), Vec::new(), Vec::new(), &address, &Meter::default())
        .await
        .expect("there is nothing to do");
    let stranger = Plan {
        run: "other".into(),
        ..plan(1)
    };
    supply(
        stranger,
        Vec::new(),
        Vec::new(),
        &address,
        &Meter::default(),
    )
    .await
    .expect_err("that is no reason to be content");
}

/// A stream of rank 0 whose messages go out as they are given.
async fn raw(address: &str) -> mpsc::Sender<FrameChunk> {
    let meter = Meter::default();
    let channel = super::outgoing::connect(address, &meter, DEADLINE).await;
    let channel = channel.expect("it listens");
    let (chunks, given) = mpsc::channel(8);
    let given = tokio_stream::wrappers::ReceiverStream::new(given);
    tokio::spawn(async move { ExchangeClient::new(channel).contribute(given).await });
    chunks
}

/// Whatever is damaged of what a stream says, its receiver does not wait for the rest of it.
#[tokio::test]
async fn damaged_words_end_a_stream() {
    let key = FrameKey {
        view: 1,
        step: 7,
        rank: 0,
        bucket: 0,
    };
    let opening = plan(1).opening(None);
    let header = chunk::cut(key, frame(7, 0, 40)).next().expect("it has one");
    let decision = Decision {
        view: 1,
        step: 7,
        ranks: vec![0, 1],
    };
    let decision = chunk::decision(&decision);
    let damaged = |mut chunk: FrameChunk| {
        chunk.checksum ^= 1;
        chunk
    };
    for chunks in [
        vec![damaged(opening.clone())],
        vec![opening.clone(), damaged(header)],
        vec![opening.clone(), damaged(decision)],
    ] {
        let (receiver, mut arrivals, address) = listen().await;
        receiver.open(gate());
        let sender = raw(&address).await;
        let opened = chunks.len() > 1;
        for chunk in chunks {
            sender.send(chunk).await.expect("it is open");
        }
        // A stream that never was one is only refused.
        sender.closed().await;
        if opened {
            let (rank, reason) = lost(next(&mut arrivals).await);
            assert!(rank == 0 && reason.contains("checksum"), "{reason}");
        }
    }
}

#[tokio::test]
async fn who_has_fewer_frames_than_were_sent_does_not_wait_for_them() {
    let (receiver, mut arrivals, address) = listen().await;
    receiver.open(gate());
    let sender = raw(&address).await;
    let mut counter = Counter::default();
    counter.count(&FrameChunk {
        header: Some(FrameHeader::default()),
        ..FrameChunk::default()
    });
    for chunk in [plan(1).opening(None), counter.idle()] {
        sender.send(chunk).await.expect("it is open");
    }
    let (_, reason) = lost(next(&mut arrivals).await);
    assert!(reason.contains("0 frames have arrived of 1"), "{reason}");
}

#[tokio::test]
async fn a_stream_that_says_nothing_is_broken() {
    let (receiver, mut arrivals, address) = listen().await;
    receiver.open(Gate {
        silence: Duration::from_millis(200),
        ..gate()
    });
    let sender = raw(&address).await;
    let opening = plan(1).opening(None);
    sender.send(opening).await.expect("it is open");
    let (_, reason) = lost(next(&mut arrivals).await);
    assert!(reason.contains("nothing was heard for 0.2 s"), "{reason}");
    // Nor does it wait for a view that never comes.
    let sender = raw(&address).await;
    let opening = plan(1 << 40).opening(None);
    sender.send(opening).await.expect("it is open");
    sender.closed().await;
}

#[tokio::test]
async fn a_sender_with_nothing_to_say_says_how_much_it_has_said() {
    let (chunks, given) = mpsc::channel(8);
    chunks
        .try_send(plan(1).opening(None))
        .expect("there is room");
    let mut said = std::pin::pin!(alive(given, Duration::from_millis(1)));
    let opening = said.next().await.expect("it is open");
    assert!(opening.opening.is_some());
    let key = FrameKey {
        view: 1,
        step: 7,
        rank: 0,
        bucket: 0,
    };
    for frames in 0..3 {
        loop {
            let chunk = said.next().await.expect("it is open");
            match chunk.idle {
                Some(idle) => {
                    assert_eq!(idle.frames, frames);
                    break;
                }
                None => assert!(chunk.header.is_some()),
            }
        }
        for chunk in chunk::cut(key, frame(7, 0, 40)) {
            chunks.try_send(chunk).expect("there is room");
        }
    }
    drop(chunks);
    while said.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_arrives_as_it_was_and_another_size_is_refused() {
    let (donor, mut asked, address) = listen().await;
    donor.open(gate());
    let data: Bytes = (0..600_000_u32).map(|i| (i >> 3) as u8).collect();
    let snapshot = Snapshot {
        next: 9,
        digest: Digest([7; 32]),
        data: data.clone(),
    };
    let source = |bytes, run: &str| Source {
        run: run.to_owned(),
        address: address.clone(),
        at_least: 8,
        bytes,
        patience: DEADLINE,
    };
    let answering = tokio::spawn(async move {
        for _ in 0..2 {
            let Input::Wanted(wanted) = next(&mut asked).await else {
                panic!("a request")
            };
            assert_eq!(wanted.at_least, 8);
            let _refused = wanted.reply.send(snapshot.clone());
        }
    });
    let meter = Meter::default();
    let found = fetch(source(data.len(), "run"), &meter).await;
    let found = found.expect("it is what it announces");
    assert_eq!((found.next, found.digest), (9, Digest([7; 32])));
    assert_eq!(found.data, data);
    let other = fetch(source(100, "run"), &meter).await;
    let text = other.expect_err("it is too large");
    assert!(
        text.contains("600000 bytes where a replica has 100"),
        "{text}"
    );
    let other = fetch(source(100, "other"), &meter).await;
    let text = other.expect_err("it is another run's");
    assert!(text.contains("no replica of run \"other\""), "{text}");
    answering.await.expect("it was asked twice");
}
