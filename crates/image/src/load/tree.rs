//! Writes a directory of this machine as a tar stream, by descriptors: a name that changes meanwhile is not followed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use crate::error::{Error, Result};
use crate::limits;
use crate::sys;

/// Bytes of a name in a plain header; longer ones go into a pax record.
const PLAIN_NAME: usize = 100;

pub(super) fn write(dir: OwnedFd, path: &Path, out: impl Write) -> Result<()> {
    let device = fstat(&dir).map_err(Error::file("stat", path))?.st_dev;
    let mut tree = Tree { tar: tar::Builder::new(out), device, links: HashMap::new(), source: path };
    let stat = fstat(&dir).map_err(Error::file("stat", path))?;
    tree.directory(dir, b".", &stat, 0)?;
    let mut out = tree.tar.into_inner().map_err(Error::file("read", path))?;
    out.flush().map_err(Error::file("read", path))
}

struct Tree<'p, W: Write> {
    tar: tar::Builder<W>,
    /// Other file systems are not entered.
    device: u64,
    /// The first path of each file that has several.
    links: HashMap<u64, Vec<u8>>,
    source: &'p Path,
}

impl<W: Write> Tree<'_, W> {
    fn error<E: Into<io::Error>>(&self, action: &'static str, path: &[u8]) -> impl FnOnce(E) -> Error {
        let path = self.source.join(String::from_utf8_lossy(path).as_ref());
        move |error| Error::file(action, &path)(error)
    }

    fn directory(&mut self, fd: OwnedFd, path: &[u8], stat: &FileStat, depth: u64) -> Result<()> {
        let xattrs = self.xattrs(fd.as_fd(), path)?;
        self.append(path, stat, tar::EntryType::Directory, b"", xattrs, io::empty())?;
        if stat.st_dev != self.device {
            return Ok(());
        }
        if depth > limits::MAX_DEPTH {
            let (unit, max) = ("directories in each other", limits::MAX_DEPTH);
            return Err(Error::Limit { subject: crate::error::lossy(path), unit, max });
        }
        let mut dir = Dir::from_fd(fd).map_err(self.error("read", path))?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let name = entry.map_err(self.error("read", path))?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        // The same tree gives the same archive, and so the same image.
        names.sort_unstable();
        for name in names {
            let path = if path == b"." { name.clone() } else { [path, b"/", &name].concat() };
            self.entry(&dir, &name, &path, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, dir: &Dir, name: &[u8], path: &[u8], depth: u64) -> Result<()> {
        use tar::EntryType;
        let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(self.error("stat", path))?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if stat.st_nlink > 1 && kind != SFlag::S_IFDIR {
            if let Some(first) = self.links.get(&stat.st_ino).cloned() {
                return self.append(path, &stat, EntryType::Link, &first, Vec::new(), io::empty());
            }
            self.links.insert(stat.st_ino, path.to_vec());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let simple = match kind {
            SFlag::S_IFDIR => {
                let fd = openat(dir, name, flags | OFlag::O_DIRECTORY, Mode::empty())
                    .map_err(self.error("open", path))?;
                return self.directory(fd, path, &stat, depth + 1);
            }
            SFlag::S_IFREG => {
                let fd = openat(dir, name, flags, Mode::empty()).map_err(self.error("open", path))?;
                let opened = fstat(&fd).map_err(self.error("stat", path))?;
                if (opened.st_ino, opened.st_dev) != (stat.st_ino, stat.st_dev) {
                    return Err(self.error("read changing", path)(Errno::ESTALE));
                }
                let xattrs = self.xattrs(fd.as_fd(), path)?;
                let data = Exactly { file: File::from(fd), left: u64::try_from(opened.st_size).unwrap_or(0) };
                return self.append(path, &opened, EntryType::Regular, b"", xattrs, data);
            }
            SFlag::S_IFLNK => {
                let target = readlinkat(dir, name).map_err(self.error("read link", path))?;
                let target = target.as_encoded_bytes();
                return self.append(path, &stat, EntryType::Symlink, target, Vec::new(), io::empty());
            }
            SFlag::S_IFIFO => EntryType::Fifo,
            SFlag::S_IFCHR => EntryType::Char,
            SFlag::S_IFBLK => EntryType::Block,
            // A socket means nothing without the process that listens on it.
            _ => return Ok(()),
        };
        self.append(path, &stat, simple, b"", Vec::new(), io::empty())
    }

    /// Returns the extended attributes that a layer keeps, as pax records.
    fn xattrs(&self, fd: std::os::fd::BorrowedFd<'_>, path: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
        let names = match sys::flistxattr(fd) {
            Ok(names) => names,
            Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(self.error("list attributes of", path)(error)),
        };
        let mut records = Vec::new();
        for name in names.split(|&byte| byte == 0) {
            let Ok(text) = std::str::from_utf8(name) else { continue };
            if text != "security.capability" && !text.starts_with("user.") {
                continue;
            }
            let name = std::ffi::CString::new(name).expect("it was split at NUL");
            match sys::fgetxattr(fd, &name) {
                Ok(value) => records.push((format!("SCHILY.xattr.{text}"), value)),
                Err(Errno::ENODATA) => {}
                Err(error) => return Err(self.error("read attribute of", path)(error)),
            }
        }
        records.sort_unstable();
        Ok(records)
    }

    fn append(
        &mut self,
        path: &[u8],
        stat: &FileStat,
        kind: tar::EntryType,
        link: &[u8],
        mut records: Vec<(String, Vec<u8>)>,
        data: impl Read,
    ) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        for (key, name, field) in [("path", path, 0), ("linkpath", link, 157)] {
            let plain = name.len().min(PLAIN_NAME);
            header.as_mut_bytes()[field..field + plain].copy_from_slice(&name[..plain]);
            if name.len() > PLAIN_NAME {
                records.push((key.to_owned(), name.to_vec()));
            }
        }
        let size = if kind == tar::EntryType::Regular { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        header.set_size(size);
        header.set_uid(u64::from(stat.st_uid));
        header.set_gid(u64::from(stat.st_gid));
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        if stat.st_mtime < 0 || stat.st_mtime_nsec != 0 {
            // A time before 1970 counts back from its second.
            let text = match (stat.st_mtime, stat.st_mtime_nsec) {
                (seconds, 0) => seconds.to_string(),
                (seconds, nanoseconds) if seconds >= 0 => format!("{seconds}.{nanoseconds:09}"),
                (seconds, nanoseconds) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
            };
            records.push(("mtime".to_owned(), text.into_bytes()));
        }
        header.set_cksum();
        if !records.is_empty() {
            let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            self.tar.append_pax_extensions(records).map_err(self.error("read", path))?;
        }
        self.tar.append(&header, data).map_err(self.error("read", path))
    }
}

/// Reads as many bytes as the header has announced; a file that shrinks meanwhile is an error.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..want])?;
        if read == 0 && want > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        self.left -= read as u64;
        Ok(read)
    }
}
