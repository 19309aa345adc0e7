//! Readers that hash, bound, copy and decompress while the bytes pass once.

use std::io::{self, BufReader, Read, Write};

use flate2::bufread::MultiGzDecoder;
use sha2::Digest as _;

use crate::digest::Digest;
use crate::error::Error;
use crate::frames::Frames;
use crate::memory::Memory;
use crate::protection::Protection;
use crate::tar_stream::Source;

/// Bytes moved at once: large enough to make system calls and hashing cheap, small enough for the cache.
pub(crate) const CHUNK: usize = 128 << 10;

/// Hashes what is read, and fails with a typed error at the first byte beyond `max`.
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Option<sha2::Sha256>,
    bytes: u64,
    max: u64,
    /// What is counted, for the error.
    unit: &'static str,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(inner: R, max: u64, unit: &'static str) -> Self {
        Self { inner, hasher: Some(sha2::Sha256::new()), bytes: 0, max, unit }
    }

    /// Counts and bounds only, where another reader hashes the same bytes.
    pub(crate) fn counting(inner: R, max: u64, unit: &'static str) -> Self {
        Self { hasher: None, ..Self::new(inner, max, unit) }
    }

    /// Reads to the end, and returns the digest (unless only counting) and the number of bytes.
    pub(crate) fn finish(mut self) -> io::Result<(Option<Digest>, u64)> {
        let mut buffer = vec![0; CHUNK];
        while self.read(&mut buffer)? > 0 {}
        Ok((self.hasher.map(Digest::from_hasher), self.bytes))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        if self.bytes > self.max && Protection::BlobBytes.is_on() {
            return Err(Error::Limit { subject: String::new(), unit: self.unit, max: self.max }.into());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        Ok(read)
    }
}

/// Writes what is read to a second place.
pub(crate) struct Tee<R, W> {
    pub(crate) inner: R,
    pub(crate) copy: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.copy.write_all(&buffer[..read])?;
        Ok(read)
    }
}

/// How a stream is compressed, by its first bytes: file names and media types lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Returns the suffix of an OCI layer's media type.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
        }
    }

    pub(crate) fn of(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable one, which the chunked format puts in front.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Decompresses `source`, whatever it is compressed with; several gzip members or zstd frames in a row are one stream.
///
/// Windows of zstd are of `memory` and waited for. One of gzip has 32 KiB and is not worth it.
pub(crate) fn decompress<'r, R: Read + 'r>(
    source: R,
    memory: &'r Memory,
) -> io::Result<(Compression, Box<dyn Read + 'r>)> {
    let mut first = Vec::with_capacity(4);
    let mut source = source;
    // A single read may return fewer than four bytes.
    source.by_ref().take(4).read_to_end(&mut first)?;
    let compression = Compression::of(&first);
    let buffered = BufReader::with_capacity(CHUNK, io::Cursor::new(first).chain(source));
    Ok((
        compression,
        match compression {
            Compression::None => Box::new(buffered),
            Compression::Gzip => Box::new(MultiGzDecoder::new(buffered)),
            Compression::Zstd => Box::new(Frames::new(buffered, memory)),
        },
    ))
}

/// A tar source that can only be read on.
pub(crate) struct Streamed<R>(pub(crate) R);

impl<R: Read> Read for Streamed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Source for Streamed<R> {}
