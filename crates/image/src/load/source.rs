//! The files of an archive or layout by name, whether it is a directory or a tar file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

use crate::error::{Error, Result, lossy};
use crate::limits::{self, Limits};
use crate::memory::Memory;
use crate::protection::Protection;
use crate::store::read_document;
use crate::stream::{Compression, Hashing, decompress};
use crate::tar_stream::{Kind, Source, TarReader};
use crate::unpack::path::{clean, split};

/// Links that may lead to each other inside an archive.
const MAX_LINKS: u32 = 8;

pub(super) struct Files {
    path: PathBuf,
    backing: Backing,
}

enum Backing {
    Directory(File),
    Tar { file: File, members: HashMap<Vec<u8>, Member> },
}

/// A member of a tar file.
enum Member {
    /// Its data: offset and size.
    File(u64, u64),
    /// Another member's clean path.
    Link(Vec<u8>),
}

impl Files {
    /// Opens `path`. Of a tar file only the headers are read, unless it is compressed or a pipe: then it is written out,
    /// uncompressed, to a nameless file in `scratch`.
    pub(super) fn open(path: &Path, scratch: &Path, limits: Limits) -> Result<Self> {
        let file = File::open(path).map_err(Error::file("open", path))?;
        let metadata = file.metadata().map_err(Error::file("stat", path))?;
        if metadata.is_dir() {
            return Ok(Self { path: path.to_owned(), backing: Backing::Directory(file) });
        }
        let file = if metadata.is_file() && !is_compressed(&file).map_err(Error::file("read", path))? {
            file
        } else {
            spool(file, path, scratch, limits)?
        };
        let members = members(&file, path)?;
        Ok(Self { path: path.to_owned(), backing: Backing::Tar { file, members } })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match &self.backing {
            Backing::Directory(dir) => open_below(dir, name).is_ok(),
            Backing::Tar { members, .. } => find(members, name.as_bytes()).is_some(),
        }
    }

    /// Returns a reader of the file's bytes.
    pub(super) fn get(&self, name: &str) -> Result<Box<dyn Read + Send + '_>> {
        match &self.backing {
            Backing::Directory(dir) => match open_below(dir, name) {
                Ok(file) => Ok(Box::new(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.missing(name)),
                Err(error) => Err(Error::file("open", &self.path.join(name))(error)),
            },
            Backing::Tar { file, members } => {
                let (position, size) =
                    find(members, &clean(name.as_bytes())?).ok_or_else(|| self.missing(name))?;
                Ok(Box::new(Section { file, position, end: position + size }))
            }
        }
    }

    /// Reads a small file.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>> {
        read_document(self.get(name)?, Path::new(&lossy(name.as_bytes())))
    }

    fn missing(&self, name: &str) -> Error {
        Error::Missing(format!("{} in {}", lossy(name.as_bytes()), self.path.display()))
    }
}

/// Opens a regular file below `dir`; links lead within it. Nothing that could block is opened for long.
fn open_below(dir: &File, name: &str) -> io::Result<File> {
    if !Protection::SourceBelow.is_on() {
        return Ok(File::from(openat(dir, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?));
    }
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(dir.as_fd(), name, how)?);
    let is_file = file.metadata()?.is_file() || !Protection::SourceIsFile.is_on();
    if is_file { Ok(file) } else { Err(Errno::EINVAL.into()) }
}

fn is_compressed(file: &File) -> io::Result<bool> {
    let mut first = [0; 4];
    let read = file.read_at(&mut first, 0)?;
    Ok(Compression::of(&first[..read]) != Compression::None)
}

/// Writes the uncompressed archive to a file without a name, which is gone when it is closed.
fn spool(file: File, path: &Path, scratch: &Path, limits: Limits) -> Result<File> {
    let mut spooled = File::options()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE)
        .open(scratch)
        .map_err(Error::file("create", scratch))?;
    let memory = Memory::default();
    let (_, stream) = decompress(file, &memory).map_err(|error| Error::from_reader(error, b""))?;
    let mut bounded = Hashing::counting(stream, limits.unpacked_bytes, "unpacked bytes");
    io::copy(&mut bounded, &mut spooled).map_err(|error| match Error::from_reader(error, b"") {
        Error::Limit { unit, max, .. } => Error::Limit { subject: path.display().to_string(), unit, max },
        other => other,
    })?;
    Ok(spooled)
}

/// Lists the members of a tar file. Of two with one name the later counts, as it does for tar.
fn members(file: &File, path: &Path) -> Result<HashMap<Vec<u8>, Member>> {
    let length = file.metadata().map_err(Error::file("stat", path))?.len();
    let mut reader = BufReader::with_capacity(4096, file);
    reader.seek(SeekFrom::Start(0)).map_err(Error::file("seek", path))?;
    let most = if Protection::ArchiveMembers.is_on() { limits::MAX_ARCHIVE_MEMBERS } else { u64::MAX };
    let mut tar = TarReader::new(Seekable { reader, length }, most);
    let mut members = HashMap::new();
    while let Some(entry) = tar.next()? {
        let name = clean(&entry.path)?;
        let member = match entry.kind {
            Kind::File
                if entry.segments.len() > 1
                    || entry.segments.first() != Some(&(0, entry.size)) && entry.size > 0 =>
            {
                return Err(Error::Malformed { entry: lossy(&entry.path), reason: "a member with holes" });
            }
            Kind::File => Member::File(tar.position(), entry.size),
            Kind::HardLink => Member::Link(clean(&entry.link)?),
            // `docker save` links layers that images share: `../ID/layer.tar`.
            Kind::Symlink => match relative(split(&name).0, &entry.link) {
                Some(target) => Member::Link(target),
                None => continue,
            },
            _ => continue,
        };
        members.insert(name, member);
    }
    Ok(members)
}

/// Resolves a link's target in the directory `dir` by text alone; `None` if it leaves the archive.
fn relative(dir: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = if target.starts_with(b"/") { Vec::new() } else { vec![dir] };
    if !parts.is_empty() {
        parts = dir.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect();
    }
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

fn find(members: &HashMap<Vec<u8>, Member>, name: &[u8]) -> Option<(u64, u64)> {
    let mut name = name;
    for _ in 0..MAX_LINKS {
        match members.get(name)? {
            Member::File(offset, size) => return Some((*offset, *size)),
            Member::Link(target) => name = target,
        }
    }
    None
}

/// A part of a file, read by position, so that several readers do not disturb each other.
struct Section<'f> {
    file: &'f File,
    position: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let want = left.min(buffer.len());
        let read = self.file.read_at(&mut buffer[..want], self.position)?;
        if read == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(read)
    }
}

/// A tar file whose data is passed over without being read.
struct Seekable<'f> {
    reader: BufReader<&'f File>,
    length: u64,
}

impl Read for Seekable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Source for Seekable<'_> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let target = self.reader.stream_position()?.checked_add(count).filter(|&end| end <= self.length);
        let offset = target.and_then(|_| i64::try_from(count).ok()).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.reader.seek_relative(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_in_the_archive() {
        for (dir, target, resolved) in [
            ("a", "../b/layer.tar", Some("b/layer.tar")),
            ("", "b", Some("b")),
            ("a/b", "c", Some("a/b/c")),
            ("a/b", "/c", Some("c")),
            ("a", "../../etc/passwd", None),
            ("", "..", None),
        ] {
            let found = relative(dir.as_bytes(), target.as_bytes());
            assert_eq!(found.as_deref(), resolved.map(str::as_bytes), "{dir} -> {target}");
        }
    }
}
