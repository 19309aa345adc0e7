//! A tar reader for archives from strangers: streaming, bounded, one entry at a time.
//!
//! It reads what container tools write: ustar, pax and GNU archives with long names, extended attributes and sparse
//! files. Where readers of tar disagree it does what Go's `archive/tar` does, because the programs that write and
//! check images are in Go; an archive that reads differently here would be another image than the one scanned.
//! Every header that is held in memory is bounded before it is read.

mod header;
pub(crate) mod pax;

use std::io::{self, Read};

use self::header::{BLOCK, Header, Segments, sparse_pairs};
use self::pax::{Pax, PaxError, PaxSparse};
use crate::error::{Error, Refusal, Result, lossy};
use crate::limits;
use crate::protection::Protection;

/// What an entry describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    /// A character or block device; never created, so its numbers are not read.
    Device,
}

/// One entry with all its headers applied.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// The path as written.
    pub(crate) path: Vec<u8>,
    /// The target of a link as written.
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The file's size, holes included.
    pub(crate) size: u64,
    /// Where the data in the archive goes: offset and length. One segment for a file without holes.
    pub(crate) segments: Segments,
}

/// Where the bytes of an archive come from; a file can skip without reading.
pub(crate) trait Source: Read {
    /// Passes over `count` bytes.
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.take(count), &mut io::sink())?;
        if skipped < count { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// Reads entries one after the other; [`TarReader::data`] reads the current one's data.
pub(crate) struct TarReader<S> {
    source: S,
    /// Bytes of the current entry's data not read yet.
    remaining: u64,
    /// Bytes that fill its last block.
    padding: u64,
    position: u64,
    entries: u64,
    extended: u64,
    max_entries: u64,
    /// The path of the last entry, for errors.
    last: Vec<u8>,
}

impl<S: Source> TarReader<S> {
    pub(crate) fn new(source: S, max_entries: u64) -> Self {
        Self {
            source,
            remaining: 0,
            padding: 0,
            position: 0,
            entries: 0,
            extended: 0,
            max_entries,
            last: Vec::new(),
        }
    }

    /// Returns the offset in the archive of the next byte to read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn into_source(self) -> S {
        self.source
    }

    /// Reads data of the current entry; 0 at its end.
    pub(crate) fn data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let read = self.source.read(&mut buffer[..want]).map_err(|e| Error::from_reader(e, &self.last))?;
        if read == 0 {
            return Err(self.cut_off());
        }
        self.remaining -= read as u64;
        self.position += read as u64;
        Ok(read)
    }

    /// Passes over what is left of the current entry and returns the next one; `None` at the archive's end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let mut long_path = None;
        let mut long_link = None;
        let mut pax: Option<Pax> = None;
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                if long_path.is_some() || long_link.is_some() || pax.is_some() {
                    return Err(self.malformed("an extended header describes no entry"));
                }
                return Ok(None);
            };
            match header.type_flag() {
                b'L' => long_path = Some(text(self.extended(&header)?)),
                b'K' => long_link = Some(text(self.extended(&header)?)),
                b'x' => {
                    let data = self.extended(&header)?;
                    pax = Some(pax::parse(&data).map_err(|error| self.pax_error(error))?);
                }
                // Global headers (git archive writes one with the commit) say nothing about a single entry.
                b'g' => drop(self.extended(&header)?),
                _ => return self.entry(&header, long_path, long_link, pax.unwrap_or_default()).map(Some),
            }
        }
    }

    /// Puts the headers of one entry together.
    fn entry(
        &mut self,
        header: &Header,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        mut pax: Pax,
    ) -> Result<Entry> {
        self.entries += 1;
        if self.entries > self.max_entries && Protection::Entries.is_on() {
            return Err(self.limit("entries", self.max_entries));
        }
        let path = pax.sparse.name.take().or(pax.path.take()).or(long_path).unwrap_or_else(|| header.path());
        self.last.clone_from(&path);
        let kind = match header.type_flag() {
            // Archives from before ustar mark directories by a slash at the end; they may have data all the same.
            0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return Err(self.refused(Refusal::EntryType)),
        };
        let number =
            |value: Option<u64>| value.ok_or_else(|| self.malformed("a number in the header is broken"));
        let stored = match pax.size {
            Some(size) => size,
            None => number(header.size())?,
        };
        let mode = u32::try_from(number(header.mode())? & 0o7777).expect("twelve bits fit");
        let uid = self.id(pax.uid, header.uid())?;
        let gid = self.id(pax.gid, header.gid())?;
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => (i64::try_from(number(header.mtime())?).unwrap_or(i64::MAX), 0),
        };
        // Only files have data; some writers give links the size of their target all the same.
        let stored = if kind == Kind::File || header.type_flag() == 0 { stored } else { 0 };
        self.remaining = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
        let (size, segments) = match header.type_flag() {
            b'S' if header.is_gnu() => self.gnu_sparse(header)?,
            b'S' => return Err(self.refused(Refusal::EntryType)),
            _ if kind == Kind::File && pax.sparse.is_sparse() => self.pax_sparse(pax.sparse)?,
            _ => (stored, vec![(0, stored)]),
        };
        let link = pax.link.or(long_link).unwrap_or_else(|| header.link().to_vec());
        Ok(Entry { kind, path, link, mode, uid, gid, mtime, xattrs: pax.xattrs, size, segments })
    }

    /// Returns the next header block that is no filler; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut block = [0; BLOCK];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block == [0; BLOCK] {
            // Two blocks of zeros end an archive; a lone one is tolerated only where nothing follows.
            if self.block(&mut block)? && block != [0; BLOCK] {
                return Err(self.malformed("data follows the end mark"));
            }
            return Ok(None);
        }
        match Header::parse(&block) {
            Some(header) => Ok(Some(header)),
            None if self.position == BLOCK as u64 => Err(self.malformed("this is no tar archive")),
            None => Err(self.malformed("the header's checksum is wrong")),
        }
    }

    /// Reads a block; false if the archive ends before its first byte.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            let read =
                self.source.read(&mut block[filled..]).map_err(|e| Error::from_reader(e, &self.last))?;
            if read == 0 && filled == 0 {
                return Ok(false);
            }
            if read == 0 {
                return Err(self.cut_off());
            }
            filled += read;
        }
        self.position += BLOCK as u64;
        Ok(true)
    }

    /// Reads the data of an extended header.
    fn extended(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.size().ok_or_else(|| self.malformed("a number in the header is broken"))?;
        let length = usize::try_from(size)
            .ok()
            .filter(|_| size <= limits::MAX_HEADER_BYTES || !Protection::HeaderBytes.is_on());
        let length =
            length.ok_or_else(|| self.limit("bytes of extended header", limits::MAX_HEADER_BYTES))?;
        // An entry has three at most; anything near four for each is a stream of headers that never ends.
        self.extended += 1;
        if self.extended > self.max_entries.saturating_mul(4) && Protection::ExtendedHeaders.is_on() {
            return Err(self.limit("extended headers", self.max_entries.saturating_mul(4)));
        }
        (self.remaining, self.padding) = (size, size.wrapping_neg() % BLOCK as u64);
        let mut data = vec![0; length];
        self.fill(&mut data)?;
        Ok(data)
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            match self.data(buffer)? {
                0 => return Err(self.malformed("an entry is shorter than its own description")),
                read => buffer = &mut buffer[read..],
            }
        }
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<()> {
        let rest =
            self.remaining.checked_add(self.padding).ok_or_else(|| self.malformed("a size is too large"))?;
        if rest > 0 {
            self.source.skip(rest).map_err(|e| Error::from_reader(e, &self.last))?;
            self.position += rest;
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    fn gnu_sparse(&mut self, header: &Header) -> Result<(u64, Segments)> {
        const BROKEN: &str = "a sparse map is broken";
        let (mut pairs, mut more, size) = header.gnu_sparse().ok_or_else(|| self.malformed(BROKEN))?;
        while more {
            let mut block = [0; BLOCK];
            if !self.block(&mut block)? {
                return Err(self.cut_off());
            }
            pairs.extend(sparse_pairs(&block[..504]).ok_or_else(|| self.malformed(BROKEN))?);
            self.check_segments(pairs.len() as u64)?;
            more = block[504] != 0;
        }
        self.sparse(size, pairs)
    }

    fn pax_sparse(&mut self, sparse: PaxSparse) -> Result<(u64, Segments)> {
        let size = sparse.real_size.ok_or_else(|| self.malformed("a sparse file has no size"))?;
        let numbers = if sparse.in_data { self.sparse_map_in_data()? } else { sparse.map };
        if numbers.len() % 2 != 0 {
            return Err(self.malformed("a sparse map is broken"));
        }
        self.sparse(size, numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    /// Reads the map in front of the data: a count, then offsets and lengths, a decimal number per line.
    fn sparse_map_in_data(&mut self) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        let mut wanted = 1;
        let mut line = Vec::new();
        while numbers.len() < wanted {
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let value = pax::decimal(&line).ok_or_else(|| self.malformed("a sparse map is broken"))?;
                line.clear();
                numbers.push(value);
                if numbers.len() == 1 {
                    self.check_segments(value)?;
                    wanted = 1 + 2 * usize::try_from(value).expect("bounded just above");
                }
                if numbers.len() == wanted {
                    break;
                }
            }
            if line.len() > BLOCK {
                return Err(self.malformed("a sparse map is broken"));
            }
        }
        numbers.remove(0);
        Ok(numbers)
    }

    /// Checks that segments are in order, within the file, and hold exactly the entry's data.
    fn sparse(&self, size: u64, mut segments: Segments) -> Result<(u64, Segments)> {
        self.check_segments(segments.len() as u64)?;
        let (mut end, mut data) = (0_u64, 0_u64);
        for &(offset, length) in &segments {
            let next = offset.checked_add(length).filter(|&next| offset >= end && next <= size);
            end = next.ok_or_else(|| self.malformed("a sparse map is out of order"))?;
            data += length;
        }
        if data != self.remaining {
            return Err(self.malformed("a sparse map does not fit the data"));
        }
        segments.retain(|&(_, length)| length > 0);
        Ok((size, segments))
    }

    fn check_segments(&self, count: u64) -> Result<()> {
        if count > limits::MAX_SPARSE_SEGMENTS && Protection::SparseSegments.is_on() {
            return Err(self.limit("segments of a sparse file", limits::MAX_SPARSE_SEGMENTS));
        }
        Ok(())
    }

    /// A user or group ID; `u32::MAX` means "unchanged" to chown(2), so it is none.
    fn id(&self, pax: Option<u64>, header: Option<u64>) -> Result<u32> {
        let id = pax.or(header).ok_or_else(|| self.malformed("a number in the header is broken"))?;
        match u32::try_from(id).ok().filter(|&id| id != u32::MAX) {
            Some(id) => Ok(id),
            None if !Protection::Owner.is_on() => Ok(0),
            None => Err(self.refused(Refusal::Owner)),
        }
    }

    fn cut_off(&self) -> Error {
        Error::from_reader(io::ErrorKind::UnexpectedEof.into(), &self.last)
    }

    fn malformed(&self, reason: &'static str) -> Error {
        Error::Malformed { entry: lossy(&self.last), reason }
    }

    fn refused(&self, source: Refusal) -> Error {
        Error::Refused { entry: lossy(&self.last), source }
    }

    fn limit(&self, unit: &'static str, max: u64) -> Error {
        Error::Limit { subject: lossy(&self.last), unit, max }
    }

    fn pax_error(&self, error: PaxError) -> Error {
        match error {
            PaxError::Malformed(reason) => self.malformed(reason),
            PaxError::Refused(refusal) => self.refused(refusal),
        }
    }
}

/// GNU long names end with a NUL.
fn text(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|&byte| byte == 0) {
        name.truncate(end);
    }
    name
}

#[cfg(test)]
mod tests;
