//! A link that can be cut, stalled, healed and damaged: a proxy on loopback.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::{DEADLINE, Program};

/// A piece that carries part of a frame, and not only words about it.
const FRAME_BYTES_MIN: usize = 100;

/// With how many bytes a connection begins in which a flipped bit may mean nothing, such as a letter of the
/// sender's name.
const BEGINNING_BYTES: usize = 1000;

/// Which way bytes go: to the target, or to who has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    There,
    Back,
}

/// Stands between whoever connects to it and a target.
pub(crate) struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
}

#[derive(Default)]
struct Link {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    target: Option<String>,
    /// Whether connections are closed, and new ones at once.
    cut: bool,
    /// Whether connections stay open, and nothing comes through.
    stalled: bool,
    /// After how many more bytes in a direction it stalls, be it in the middle of a frame.
    limit: Option<(Way, usize)>,
    /// How many pieces are still to be damaged on the way to the target.
    damages: u32,
    /// How many there have been.
    generation: u64,
    open: Vec<TcpStream>,
}

impl Proxy {
    /// A link to nowhere yet.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it listens");
        let link = Arc::new(Link::default());
        let serving = link.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serving.accept(stream);
            }
        });
        Self { address, link }
    }

    /// Where to connect to.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Leads to `target` from now on.
    pub(crate) fn lead_to(&self, target: &str) {
        self.link.state().target = Some(target.to_owned());
    }

    /// Leads to a node that starts, or comes back, and listens somewhere.
    pub(crate) fn lead_to_node(&self, node: &mut Program) {
        self.lead_to(&node.until(|line| {
            let rest = line.split_once("listening=")?.1;
            rest.split_whitespace().next().map(str::to_owned)
        }));
    }

    /// Closes all connections, and takes no more.
    pub(crate) fn cut(&self) {
        let mut state = self.link.state();
        state.cut = true;
        for stream in state.open.drain(..) {
            let _closed_already = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets nothing through, with all connections open.
    pub(crate) fn stall(&self) {
        self.link.state().stalled = true;
    }

    /// Stalls after so many more bytes.
    pub(crate) fn stall_after(&self, way: Way, bytes: usize) {
        self.link.state().limit = Some((way, bytes));
    }

    /// Waits until it has stalled.
    pub(crate) fn until_stalled(&self) {
        let state = self.link.state();
        let flows = |state: &mut State| !state.stalled;
        let waited = self.link.changed.wait_timeout_while(state, DEADLINE, flows);
        let (state, _) = waited.expect("no thread panics with it");
        assert!(state.stalled, "so many bytes do not come by");
    }

    /// Is a good link again.
    pub(crate) fn heal(&self) {
        let mut state = self.link.state();
        (state.cut, state.stalled) = (false, false);
        self.link.changed.notify_all();
    }

    /// Flips a bit of the next frame that comes by on a connection that was opened since the last time: on
    /// an older one nobody listens any more.
    pub(crate) fn damage(&self) {
        self.link.state().damages += 1;
    }
}

impl Link {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with it")
    }

    fn accept(self: &Arc<Self>, client: TcpStream) {
        let mut state = self.state();
        let target = state.target.clone().filter(|_| !state.cut);
        let Some(server) = target.and_then(|target| TcpStream::connect(target).ok()) else {
            return;
        };
        for (from, to, way) in [
            (&client, &server, Way::There),
            (&server, &client, Way::Back),
        ] {
            let _only_slower = from.set_nodelay(true);
            let clone = |stream: &TcpStream| stream.try_clone().expect("there are descriptors");
            let (from, to) = (clone(from), clone(to));
            let (link, generation) = (self.clone(), state.generation);
            std::thread::spawn(move || link.pass(from, to, way, generation));
        }
        state.open.extend([client, server]);
    }

    /// Passes on what comes, until either end closes.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, way: Way, generation: u64) {
        let mut buffer = vec![0; 64 << 10];
        let mut passed = 0;
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let piece = &mut buffer[..length];
            let mut state = self.flowing();
            let of_frames = passed >= BEGINNING_BYTES && length >= FRAME_BYTES_MIN;
            let newer = generation == state.generation;
            if way == Way::There && of_frames && newer && state.damages > 0 {
                state.damages -= 1;
                state.generation += 1;
                // Neither the beginning nor the end of a frame, should there be two.
                piece[length * 3 / 4] ^= 1;
            }
            let now = state.allow(way, length);
            passed += length;
            drop(state);
            if to.write_all(&piece[..now]).is_err() {
                break;
            }
            if now < length {
                self.changed.notify_all();
                drop(self.flowing());
                if to.write_all(&piece[now..]).is_err() {
                    break;
                }
            }
        }
        let _closed_already = to.shutdown(Shutdown::Both);
        let _closed_already = from.shutdown(Shutdown::Both);
    }

    /// The state, once it is not stalled.
    fn flowing(&self) -> MutexGuard<'_, State> {
        let stalled = |state: &mut State| state.stalled;
        let waited = self.changed.wait_while(self.state(), stalled);
        waited.expect("no thread panics with it")
    }
}

impl State {
    /// How many of so many bytes may pass now: with the others it stalls.
    fn allow(&mut self, way: Way, length: usize) -> usize {
        match &mut self.limit {
            Some((limited, left)) if *limited == way && *left < length => {
                let now = *left;
                (self.limit, self.stalled) = (None, true);
                now
            }
            Some((limited, left)) if *limited == way => {
                *left -= length;
                length
            }
            _ => length,
        }
    }
}
