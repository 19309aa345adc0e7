//! A blob that comes over a network: what has come of it survives the process.

#![cfg_attr(not(any(test, feature = "registry")), expect(dead_code, reason = "only pulls fetch"))]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::layout::{Layout, flock, sync_dir};
use super::session::{Expected, Layer};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Whether a layer has to be fetched.
#[derive(Debug)]
pub(crate) enum Fetch {
    /// It is here.
    Here(Layer),
    /// It has to be fetched, or the rest of it.
    Wanted(Incoming),
}

/// The beginning of a blob, locked: nobody else fetches it meanwhile.
#[derive(Debug)]
pub(crate) struct Incoming {
    file: Flock<File>,
    path: PathBuf,
    expected: Expected,
    have: u64,
    size: u64,
    /// The rest could not be read to its end, which says nothing against what has come.
    cut_off: bool,
}

impl Incoming {
    /// Waits for whoever fetches the blob just now, and opens what there is of it.
    pub(super) fn lock(layout: &Layout, expected: Expected, (digest, size): (Digest, u64)) -> Result<Self> {
        let path = layout.incoming(&digest);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
                .map_err(Error::file("open", &path))?;
            let file = flock(file, FlockArg::LockExclusive).map_err(Error::file("lock", &path))?;
            let opened = file.metadata().map_err(Error::file("stat", &path))?;
            // Whoever had the lock may have moved the file to where it belongs.
            if !fs::symlink_metadata(&path).is_ok_and(|named| named.ino() == opened.ino()) {
                continue;
            }
            let mut incoming = Self { file, path, expected, have: opened.len(), size, cut_off: false };
            if incoming.have > size {
                incoming.empty()?;
            }
            return Ok(incoming);
        }
    }

    /// Returns how many bytes are here, from the first on: the offset to ask for.
    pub(crate) fn have(&self) -> u64 {
        self.have
    }

    pub(super) fn expected(&self) -> Expected {
        self.expected
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Takes what a file has in place of what has come; for a blob of which only the layer is lost.
    pub(super) fn begin_with(&mut self, blob: &Path) -> Result<()> {
        self.empty()?;
        let mut source = File::open(blob).map_err(Error::file("open", blob))?.take(self.size);
        self.have = io::copy(&mut source, &mut &*self.file).map_err(Error::file("write", &self.path))?;
        Ok(())
    }

    /// Returns a reader of the whole blob, and the file that it has to be copied to.
    ///
    /// The part that is here is copied onto itself, so that there is one way for all bytes.
    pub(super) fn reader<R: Read>(&mut self, rest: R) -> Result<(Resumed<'_, R>, &File)> {
        (&*self.file).seek(SeekFrom::Start(0)).map_err(Error::file("seek", &self.path))?;
        let file: &File = &self.file;
        let (have, size) = (self.have, self.size);
        Ok((Resumed { file, position: 0, have, size, rest, cut_off: &mut self.cut_off }, file))
    }

    /// After a failure: empties the file, unless the reason is that the rest could not be read.
    pub(super) fn keep_if_cut_off(mut self) -> Result<()> {
        if self.cut_off { Ok(()) } else { self.empty() }
    }

    /// Removes the file; the blob is here by other means.
    pub(super) fn discard(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(Error::file("remove", &self.path))
    }

    /// Moves the blob, which is whole and on disk, to where it belongs.
    pub(super) fn publish(self, to: &Path) -> Result<()> {
        fs::rename(&self.path, to).map_err(Error::file("rename", &self.path))?;
        sync_dir(to.parent().expect("a blob has a directory"))
    }

    fn empty(&mut self) -> Result<()> {
        self.have = 0;
        self.file.set_len(0).map_err(Error::file("truncate", &self.path))?;
        (&*self.file).seek(SeekFrom::Start(0)).map_err(Error::file("seek", &self.path))?;
        Ok(())
    }
}

/// Reads what is here, then the rest.
pub(super) struct Resumed<'i, R> {
    file: &'i File,
    position: u64,
    have: u64,
    size: u64,
    rest: R,
    cut_off: &'i mut bool,
}

impl<R: Read> Read for Resumed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position < self.have {
            let left = usize::try_from(self.have - self.position).unwrap_or(usize::MAX);
            let want = buffer.len().min(left);
            // By position: the file's own offset is that of the copy.
            let read = std::os::unix::fs::FileExt::read_at(self.file, &mut buffer[..want], self.position)?;
            self.position += read as u64;
            return if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) };
        }
        let read = self.rest.read(buffer).inspect_err(|error| {
            *self.cut_off |= error.kind() != io::ErrorKind::Interrupted;
        })?;
        self.position += read as u64;
        if read == 0 && self.position < self.size && !buffer.is_empty() {
            *self.cut_off = true;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}
