//! Reading one segment, block after block.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::error::{Defect, LogError};
use super::format::{self, Entry, HEAD_BYTES, Header, PREAMBLE, SUM_BYTES, Tag};

/// What comes next in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// All of it.
    Whole(Bytes),
    /// Its beginning: the writer was killed.
    Torn,
    /// Nothing.
    End,
}

/// What is the matter with a source.
#[derive(Debug)]
pub(super) enum Trouble {
    Io(io::Error),
    Defect(Defect),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Defect> for Trouble {
    fn from(defect: Defect) -> Self {
        Self::Defect(defect)
    }
}

/// A segment that is being read. What is written to it meanwhile is not seen.
#[derive(Debug)]
pub(super) struct Blocks<R> {
    source: R,
    /// Where the next block begins.
    pub(super) offset: u64,
    length: u64,
}

impl<R: Read> Blocks<R> {
    /// Reads from a source of `length` bytes.
    pub(super) fn new(source: R, length: u64) -> Self {
        Self {
            source,
            offset: 0,
            length,
        }
    }

    /// Reads the preamble; says whether it is all there.
    fn preamble(&mut self) -> Result<bool, Trouble> {
        let mut found = [0; PREAMBLE.len()];
        let there = self.length.min(PREAMBLE.len() as u64) as usize;
        let found = &mut found[..there];
        self.source.read_exact(found)?;
        let magic = there.min(4);
        if found[..magic] != PREAMBLE[..magic] {
            return Err(Defect::Magic.into());
        }
        if let Some(version) = found.get(4..8)
            && version != &PREAMBLE[4..]
        {
            let version = version
                .iter()
                .rev()
                .fold(0, |all, byte| all << 8 | u32::from(*byte));
            return Err(Defect::Version(version).into());
        }
        self.offset = there as u64;
        Ok(there == PREAMBLE.len())
    }

    /// Reads the body of the next block. Allocates no more than what the source still has.
    fn block(&mut self, tag: Tag) -> Result<Block, Trouble> {
        let left = self.length - self.offset;
        if left == 0 {
            return Ok(Block::End);
        }
        if left < HEAD_BYTES as u64 {
            return Ok(Block::Torn);
        }
        let mut head = [0; HEAD_BYTES];
        self.source.read_exact(&mut head)?;
        let length = format::length(&head, tag)?;
        let rest = length.saturating_add(SUM_BYTES as u64);
        if rest > left - HEAD_BYTES as u64 {
            return Ok(Block::Torn);
        }
        let size = usize::try_from(rest).map_err(|_| Defect::Length(length))?;
        let mut bytes = vec![0; size];
        self.source.read_exact(&mut bytes)?;
        let body = format::body(Bytes::from(bytes))?;
        self.offset += HEAD_BYTES as u64 + rest;
        Ok(Block::Whole(body))
    }

    /// Reads run and view; nothing if the writer was killed before they were written.
    pub(super) fn header(&mut self) -> Result<Option<Header>, Trouble> {
        if !self.preamble()? {
            return Ok(None);
        }
        match self.block(Tag::View)? {
            Block::Whole(body) => Ok(Some(Header::decode(body)?)),
            Block::Torn | Block::End => Ok(None),
        }
    }

    /// Reads the next step; nothing at the end.
    pub(super) fn entry(&mut self) -> Result<Option<Entry>, Trouble> {
        match self.block(Tag::Step)? {
            Block::Whole(body) => Ok(Some(Entry::decode(body)?)),
            Block::Torn | Block::End => Ok(None),
        }
    }

    /// Bytes after the last whole block, once there is no other.
    pub(super) fn torn(&self) -> u64 {
        self.length - self.offset
    }
}

/// A segment on disk, open.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    blocks: Blocks<BufReader<File>>,
}

impl Segment {
    /// Opens a segment and reads its header; nothing if that is torn.
    pub(super) fn open(path: &Path) -> Result<Option<(Self, Header)>, LogError> {
        let unreadable = |source| LogError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut segment = Self {
            path: path.to_owned(),
            blocks: Blocks::new(BufReader::new(file), length),
        };
        let header = segment.blocks.header();
        match header.map_err(|trouble| segment.error(trouble))? {
            Some(header) => Ok(Some((segment, header))),
            None => {
                let path = path.display();
                tracing::warn!("{path} ends within its header and does not count");
                Ok(None)
            }
        }
    }

    /// The next step, and where it stands; nothing at the end, be it torn.
    pub(super) fn entry(&mut self) -> Result<Option<(u64, Entry)>, LogError> {
        let offset = self.blocks.offset;
        let entry = self.blocks.entry();
        let entry = entry.map_err(|trouble| self.error(trouble))?;
        let torn = self.blocks.torn();
        if entry.is_none() && torn > 0 {
            let path = self.path.display();
            tracing::warn!(
                "{path}: the entry at byte {offset} is torn; its {torn} bytes do not count"
            );
        }
        Ok(entry.map(|entry| (offset, entry)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn error(&self, trouble: Trouble) -> LogError {
        let path = self.path.clone();
        match trouble {
            Trouble::Io(source) => LogError::Unreadable { path, source },
            Trouble::Defect(defect) => LogError::Malformed {
                path,
                offset: self.blocks.offset,
                defect,
            },
        }
    }
}
