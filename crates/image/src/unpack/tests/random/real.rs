//! Reads a tree from the disk.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::dir::Dir;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use super::model::{Line, Listing};
use crate::sys;

/// Lists a directory and all below it.
pub(crate) fn listing(root: OwnedFd) -> Listing {
    let mut listing = Listing::default();
    let stat = fstat(&root).expect("stat");
    let mut first = HashMap::new();
    directory(root, &stat, &mut Vec::new(), &mut listing, &mut first);
    listing
}

type First = HashMap<(u64, u64), Vec<u8>>;

fn directory(fd: OwnedFd, stat: &FileStat, path: &mut Vec<u8>, listing: &mut Listing, first: &mut First) {
    listing.0.insert(path.clone(), line('d', stat, Vec::new(), xattrs(&fd), path, first));
    let mut dir = Dir::from_fd(fd).expect("a directory");
    let mut names: Vec<Vec<u8>> =
        dir.iter().map(|entry| entry.expect("entry").file_name().to_bytes().to_vec()).collect();
    names.retain(|name| name != b"." && name != b"..");
    // In the order of the model, so that the first name of an object is the same.
    names.sort_unstable();
    for name in names {
        let length = path.len();
        path.push(b'/');
        path.extend_from_slice(&name);
        entry(&dir, &name, path, listing, first);
        path.truncate(length);
    }
}

fn entry(dir: &Dir, name: &[u8], path: &mut Vec<u8>, listing: &mut Listing, first: &mut First) {
    let stat = fstatat(dir, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).expect("stat");
    let open = || {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(dir, name, flags, Mode::empty()).expect("open")
    };
    let line = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => return directory(open(), &stat, path, listing, first),
        SFlag::S_IFREG => {
            let fd = open();
            let xattrs = xattrs(&fd);
            let mut content = Vec::new();
            File::from(fd).read_to_end(&mut content).expect("read");
            line('f', &stat, content, xattrs, path, first)
        }
        SFlag::S_IFLNK => {
            let target = readlinkat(dir, name).expect("read link").into_encoded_bytes();
            line('l', &stat, target, BTreeMap::new(), path, first)
        }
        SFlag::S_IFIFO => line('p', &stat, Vec::new(), BTreeMap::new(), path, first),
        SFlag::S_IFCHR if stat.st_rdev == 0 => line('w', &stat, Vec::new(), BTreeMap::new(), path, first),
        _ => line('?', &stat, Vec::new(), BTreeMap::new(), path, first),
    };
    listing.0.insert(path.clone(), line);
}

fn line(
    kind: char,
    stat: &FileStat,
    content: Vec<u8>,
    xattrs: BTreeMap<String, Vec<u8>>,
    path: &[u8],
    first: &mut First,
) -> Line {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).expect("less than a second");
    let same = first.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec()).clone();
    Line {
        kind,
        mode: stat.st_mode & 0o7777,
        // Nobody sees a whiteout, and its group may be that of its directory.
        owner: if kind == 'w' { (0, 0) } else { (stat.st_uid, stat.st_gid) },
        mtime: Some((stat.st_mtime, nanoseconds)),
        content,
        xattrs,
        same,
    }
}

fn xattrs(fd: &OwnedFd) -> BTreeMap<String, Vec<u8>> {
    let names = sys::flistxattr(fd.as_fd()).expect("list");
    names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let value = sys::fgetxattr(fd.as_fd(), &CString::new(name).expect("no NUL")).expect("read");
            (String::from_utf8(name.to_vec()).expect("text"), value)
        })
        .collect()
}
