//! A layer's way into the store: its bytes pass once, and two threads share the work.
//!
//! ```text
//! thread:  source ─> copy to the blob ─> hash the blob ─> decompress ─┐
//! caller:                      hash the layer <─ unpack its files <───┘ a few chunks
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::session::{Expected, Layer};
use crate::ahead::{self, Ahead};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::memory::Memory;
use crate::protection::Protection;
use crate::stream::{Compression, Hashing, Streamed, Tee, decompress};
use crate::tar_stream::TarReader;
use crate::unpack::implied::Quota;
use crate::unpack::{self, Stats};

const BLOB_BYTES: &str = "bytes of blob";
const UNPACKED_BYTES: &str = "unpacked bytes";

/// How many bytes all layers of a session may have together when they are unpacked, and what memory they share.
#[derive(Debug)]
pub(super) struct Budget {
    spent: AtomicU64,
    max: u64,
    memory: Memory,
    quota: Quota,
}

impl Budget {
    pub(super) fn new(max: u64) -> Self {
        Self { spent: AtomicU64::new(0), max, memory: Memory::default(), quota: Quota::default() }
    }

    fn left(&self) -> u64 {
        self.max.saturating_sub(self.spent.load(Ordering::Relaxed))
    }

    /// Spends, and fails once more than there was is spent.
    fn spend(&self, bytes: u64) -> Result<()> {
        let before = self.spent.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.max && Protection::UnpackedBytes.is_on() {
            return Err(Error::Limit { subject: "image".to_owned(), unit: UNPACKED_BYTES, max: self.max });
        }
        Ok(())
    }
}

/// A reader that spends what is read.
struct Spending<'b, R> {
    inner: R,
    budget: &'b Budget,
}

impl<R: Read> Read for Spending<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.budget.spend(read as u64)?;
        Ok(read)
    }
}

/// A layer that was read to its end and is what it should be.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) blob: Digest,
    pub(super) blob_size: u64,
    pub(super) diff_id: Digest,
    pub(super) compression: Compression,
    /// Bytes of the uncompressed tar.
    pub(super) tar_bytes: u64,
    /// What was unpacked, if anything was.
    pub(super) stats: Option<Stats>,
}

impl Taken {
    pub(super) fn layer(&self) -> Layer {
        let Self { blob, blob_size, diff_id, compression, .. } = *self;
        Layer { blob, blob_size, diff_id, compression }
    }
}

/// Copies `source` to `copy`, verifies it, and unpacks it into `unpack_to` if that is given.
pub(super) fn take_in(
    source: impl Read + Send,
    copy: &File,
    unpack_to: Option<OwnedFd>,
    expected: Expected,
    budget: &Budget,
    limits: Limits,
) -> Result<Taken> {
    let max_blob = expected.blob.map_or(limits.unpacked_bytes, |(_, size)| size);
    let mut blob = Hashing::new(Tee { inner: source, copy }, max_blob, BLOB_BYTES);
    let produce = move |sink: &mut ahead::Sink<Compression>| {
        {
            let (compression, mut stream) = decompress(&mut blob, &budget.memory)?;
            if !sink.begin(compression) || !sink.pass_on(&mut stream)? {
                return Ok(None);
            }
        }
        blob.finish().map(Some)
    };
    let consume = |compression: Compression, stream: Ahead<Compression>| {
        let stream = Spending { inner: stream, budget };
        (compression, read_layer(compression, stream, unpack_to, budget, limits))
    };
    let (produced, consumed) = ahead::run(produce, consume);
    let announced = |error| match (error, expected.blob) {
        (Error::Limit { unit: BLOB_BYTES, .. }, Some((digest, size))) => {
            Error::SizeMismatch { digest, expected: size, actual: size.saturating_add(1) }
        }
        (error, _) => error,
    };
    // If the stream did not begin, the producer knows why.
    let Some((compression, consumed)) = consumed else { return Err(announced(unread(produced))) };
    let Consumed { diff_id, tar_bytes, stats } = consumed.map_err(announced)?;
    let (digest, blob_size) = match produced {
        Ok(Some((Some(digest), size))) => (digest, size),
        other => return Err(announced(unread(other))),
    };
    if let Some((expected, size)) = expected.blob {
        if blob_size != size && Protection::BlobDigest.is_on() {
            return Err(Error::SizeMismatch { digest: expected, expected: size, actual: blob_size });
        }
        check(Protection::BlobDigest, "blob", expected, digest)?;
    }
    // The hash of an uncompressed layer is the blob's, so it is computed once.
    let diff_id = diff_id.unwrap_or(digest);
    if let Some(expected) = expected.diff_id {
        check(Protection::DiffId, "layer after decompression", expected, diff_id)?;
    }
    Ok(Taken { blob: digest, blob_size, diff_id, compression, tar_bytes, stats })
}

/// The error of a producer that did not come to its end.
fn unread<T>(produced: io::Result<T>) -> Error {
    let source = produced.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
    Error::from_reader(source, b"")
}

/// An uncompressed stream that was read to its end.
struct Consumed {
    /// Nothing where another reader hashes the same bytes.
    diff_id: Option<Digest>,
    tar_bytes: u64,
    stats: Option<Stats>,
}

/// Hashes and unpacks; without a directory it only hashes.
fn read_layer(
    compression: Compression,
    stream: impl Read,
    unpack_to: Option<OwnedFd>,
    budget: &Budget,
    limits: Limits,
) -> Result<Consumed> {
    let left = budget.left();
    let counted = match compression {
        Compression::None => Hashing::counting(stream, u64::MAX, UNPACKED_BYTES),
        Compression::Gzip | Compression::Zstd => Hashing::new(stream, u64::MAX, UNPACKED_BYTES),
    };
    let (stats, rest) = match unpack_to {
        Some(dir) => {
            let mut tar = TarReader::new(Streamed(counted), limits.layer_entries);
            // An entry alone can be too large; it knows only what was left.
            let stats = unpack::unpack(&mut tar, dir, left, &budget.quota).map_err(|error| match error {
                Error::Limit { subject, unit: UNPACKED_BYTES, .. } => {
                    Error::Limit { subject, unit: UNPACKED_BYTES, max: limits.unpacked_bytes }
                }
                other => other,
            })?;
            (Some(stats), tar.into_source().0)
        }
        None => (None, counted),
    };
    let (diff_id, tar_bytes) = rest.finish().map_err(|error| Error::from_reader(error, b""))?;
    // A sparse file has more bytes than its archive.
    budget.spend(stats.as_ref().map_or(0, |stats| stats.bytes).saturating_sub(tar_bytes))?;
    Ok(Consumed { diff_id, tar_bytes, stats })
}

fn check(protection: Protection, what: &'static str, expected: Digest, actual: Digest) -> Result<()> {
    if expected == actual || !protection.is_on() {
        return Ok(());
    }
    Err(Error::DigestMismatch { what, expected, actual })
}
