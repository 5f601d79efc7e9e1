//! The bytes of a segment: see `RECORD.md`.

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _, Bytes};
use ecq_cluster::{Digest, NodeId, Rank, Step, View, ViewNumber};
use ecq_nn::data::{Shape, Task};

use super::error::Defect;
use crate::rules::DataFacts;

/// What a segment begins with.
pub(super) const PREAMBLE: [u8; 8] = *b"ECQR\x02\0\0\0";
/// Tag, length and their checksum.
pub(super) const HEAD_BYTES: usize = 16;
/// The checksum after a body.
pub(super) const SUM_BYTES: usize = 4;
/// Bound on the body that describes run and view.
pub(super) const VIEW_BYTES_MAX: u64 = 1 << 20;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// Run and view.
    View,
    /// A step.
    Step,
}

impl Tag {
    const fn bytes(self) -> [u8; 4] {
        match self {
            Self::View => *b"VIEW",
            Self::Step => *b"STEP",
        }
    }
}

/// What the segments of a run have in common, and all that a replay needs besides frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunFacts {
    /// The resolved `config.toml`.
    pub(crate) config: String,
    pub(crate) data: DataFacts,
    /// Steps of the run.
    pub(crate) steps: Step,
    /// Length of the flat parameter vector.
    pub(crate) parameters: u64,
}

/// Run and view of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) view: ViewNumber,
    pub(crate) first_step: Step,
    pub(crate) consumed: u64,
    /// In rank order.
    pub(crate) members: Vec<NodeId>,
    pub(crate) run: RunFacts,
}

/// A step that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) step: Step,
    /// The view in which it was made.
    pub(crate) view: ViewNumber,
    /// How many members that view has.
    pub(crate) members: u32,
    /// Digest of the replica after it, if it was computed.
    pub(crate) digest: Option<Digest>,
    /// All members' frames by (rank, bucket).
    pub(crate) frames: BTreeMap<(Rank, u32), Bytes>,
}

impl Header {
    pub(super) fn new(view: &View, run: RunFacts) -> Self {
        Self {
            view: view.number,
            first_step: view.first_step,
            consumed: view.consumed,
            members: view.members.iter().map(|member| member.node).collect(),
            run,
        }
    }

    /// Appends preamble and block.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(PREAMBLE);
        block(Tag::View, out, |out| {
            for number in [self.view, self.first_step, self.consumed] {
                out.put_u64_le(number);
            }
            out.put_u32_le(count(self.members.len()));
            self.members.iter().for_each(|node| out.put_u64_le(*node));
            encode_data(&self.run.data, out);
            out.put_u64_le(self.run.steps);
            out.put_u64_le(self.run.parameters);
            out.put_u32_le(count(self.run.config.len()));
            out.extend_from_slice(self.run.config.as_bytes());
        });
    }

    pub(super) fn decode(mut body: Bytes) -> Result<Self, Defect> {
        let (view, first_step) = (number(&mut body)?, number(&mut body)?);
        let consumed = number(&mut body)?;
        let length = body.try_get_u32_le().map_err(|_| SHORT)?;
        let members = (0..length).map(|_| number(&mut body));
        let members: Vec<NodeId> = members.collect::<Result<_, _>>()?;
        let data = decode_data(&mut body)?;
        let (steps, parameters) = (number(&mut body)?, number(&mut body)?);
        let config = piece(&mut body)?;
        let config = String::from_utf8(config.to_vec());
        let config = config.map_err(|_| Defect::Structure("the configuration is not UTF-8"))?;
        if !body.is_empty() {
            return Err(LONG);
        }
        Ok(Self {
            view,
            first_step,
            consumed,
            members,
            run: RunFacts {
                config,
                data,
                steps,
                parameters,
            },
        })
    }
}

fn encode_data(data: &DataFacts, out: &mut Vec<u8>) {
    let (kind, sizes) = match data.shape {
        Shape::Flat(features) => (0, [features, 0, 0]),
        Shape::Sparse(features) => (1, [features, 0, 0]),
        Shape::Image {
            height,
            width,
            channels,
        } => (2, [height, width, channels]),
        Shape::Sequence { length, vocabulary } => (3, [length, vocabulary, 0]),
    };
    let (task, classes) = match data.task {
        Task::Classes(classes) => (0, classes),
        Task::Regression => (1, 0),
    };
    out.put_u8(kind);
    out.put_u8(task);
    for number in sizes.into_iter().chain([classes, data.samples]) {
        out.put_u64_le(number as u64);
    }
}

fn decode_data(body: &mut Bytes) -> Result<DataFacts, Defect> {
    let mut byte = || body.try_get_u8().map_err(|_| SHORT);
    let (kind, task) = (byte()?, byte()?);
    let mut size = || {
        let size = usize::try_from(number(body)?);
        size.map_err(|_| Defect::Structure("a size beyond this machine's"))
    };
    let sizes = [size()?, size()?, size()?];
    let shape = match (kind, sizes) {
        (0, [features, 0, 0]) => Shape::Flat(features),
        (1, [features, 0, 0]) => Shape::Sparse(features),
        (2, [height, width, channels]) => Shape::Image {
            height,
            width,
            channels,
        },
        (3, [length, vocabulary, 0]) => Shape::Sequence { length, vocabulary },
        _ => return Err(Defect::Structure("no known shape of samples")),
    };
    let task = match (task, size()?) {
        (0, classes) => Task::Classes(classes),
        (1, 0) => Task::Regression,
        _ => return Err(Defect::Structure("no known task")),
    };
    Ok(DataFacts {
        shape,
        task,
        samples: size()?,
    })
}

impl Entry {
    /// Appends the block.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        block(Tag::Step, out, |out| {
            out.put_u64_le(self.step);
            out.put_u64_le(self.view);
            out.put_u32_le(self.members);
            out.put_u8(u8::from(self.digest.is_some()));
            out.extend(self.digest.iter().flat_map(|digest| digest.0));
            out.put_u32_le(count(self.frames.len()));
            for ((rank, bucket), frame) in &self.frames {
                out.put_u32_le(*rank);
                out.put_u32_le(*bucket);
                out.put_u32_le(count(frame.len()));
                out.extend_from_slice(frame);
            }
        });
    }

    pub(super) fn decode(mut body: Bytes) -> Result<Self, Defect> {
        let (step, view) = (number(&mut body)?, number(&mut body)?);
        let members = body.try_get_u32_le().map_err(|_| SHORT)?;
        let digest = match body.try_get_u8().map_err(|_| SHORT)? {
            0 => None,
            1 => {
                let mut digest = Digest([0; 32]);
                let copied = body.try_copy_to_slice(&mut digest.0);
                copied.map_err(|_| SHORT)?;
                Some(digest)
            }
            _ => return Err(Defect::Structure("neither a digest nor none")),
        };
        let length = body.try_get_u32_le().map_err(|_| SHORT)?;
        let mut frames = BTreeMap::new();
        for _ in 0..length {
            let rank = body.try_get_u32_le().map_err(|_| SHORT)?;
            let bucket = body.try_get_u32_le().map_err(|_| SHORT)?;
            let last = frames.last_key_value();
            if last.is_some_and(|(last, _)| *last >= (rank, bucket)) {
                return Err(Defect::Structure("frames are not in their order"));
            }
            frames.insert((rank, bucket), piece(&mut body)?);
        }
        if !body.is_empty() {
            return Err(LONG);
        }
        Ok(Self {
            step,
            view,
            members,
            digest,
            frames,
        })
    }

    /// Bytes of all frames.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.frames.values().map(|frame| frame.len() as u64).sum()
    }
}

const SHORT: Defect = Defect::Structure("it ends early");
const LONG: Defect = Defect::Structure("it goes on after its end");

/// Invariant: members, texts and frames are far below 2^32, and so are what is counted here.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn number(body: &mut Bytes) -> Result<u64, Defect> {
    body.try_get_u64_le().map_err(|_| SHORT)
}

/// A length and so many bytes, without a copy.
fn piece(body: &mut Bytes) -> Result<Bytes, Defect> {
    let length = body.try_get_u32_le().map_err(|_| SHORT)? as usize;
    if length > body.len() {
        return Err(SHORT);
    }
    Ok(body.split_to(length))
}

fn block(tag: Tag, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; HEAD_BYTES]);
    body(out);
    let length = out.len() - start - HEAD_BYTES;
    out.put_u32_le(crc32c::crc32c(&out[start + HEAD_BYTES..]));
    let mut head = &mut out[start..start + HEAD_BYTES];
    head.put_slice(&tag.bytes());
    head.put_u64_le(length as u64);
    let sum = crc32c::crc32c(&out[start..start + HEAD_BYTES - SUM_BYTES]);
    out[start + HEAD_BYTES - SUM_BYTES..start + HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// The length of the body that the head of a block announces.
pub(super) fn length(head: &[u8; HEAD_BYTES], expected: Tag) -> Result<u64, Defect> {
    let (announced, mut sum) = head.split_at(HEAD_BYTES - SUM_BYTES);
    if crc32c::crc32c(announced) != sum.get_u32_le() {
        return Err(Defect::Head);
    }
    let (tag, mut length) = announced.split_at(4);
    if tag != expected.bytes() {
        return Err(Defect::Tag(String::from_utf8_lossy(tag).into_owned()));
    }
    let length = length.get_u64_le();
    if expected == Tag::View && length > VIEW_BYTES_MAX {
        return Err(Defect::Length(length));
    }
    Ok(length)
}

/// The body without the checksum after it.
pub(super) fn body(mut bytes: Bytes) -> Result<Bytes, Defect> {
    let mut sum = bytes.split_off(bytes.len().saturating_sub(SUM_BYTES));
    if sum.try_get_u32_le().ok() == Some(crc32c::crc32c(&bytes)) {
        Ok(bytes)
    } else {
        Err(Defect::Body)
    }
}
