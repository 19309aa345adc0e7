//! Compares two trees: everything that a layer's archive determines.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use crate::stream::CHUNK;
use crate::sys;

/// Where two trees differ first, and in what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) path: String,
    pub(crate) what: &'static str,
}

/// Compares two directories and all below them: names, kinds, modes, owners, times, sizes, contents, link targets,
/// extended attributes, and which names are links to one file. Access and change times are not looked at.
pub(crate) fn difference(left: OwnedFd, right: OwnedFd) -> io::Result<Option<Difference>> {
    let mut comparison =
        Comparison { links: HashMap::new(), path: Vec::new(), buffers: [vec![0; CHUNK], vec![0; CHUNK]] };
    let (a, b) = (fstat(&left)?, fstat(&right)?);
    let found = match comparison.objects(&a, &b) {
        Some(what) => Some(what),
        None => comparison.directories(left, right)?,
    };
    let path = || format!("/{}", String::from_utf8_lossy(&comparison.path.join(&b'/')));
    Ok(found.map(|what| Difference { path: path(), what }))
}

struct Comparison {
    /// For each file with several names on the left, the file on the right.
    links: HashMap<u64, u64>,
    /// Where we are.
    path: Vec<Vec<u8>>,
    buffers: [Vec<u8>; 2],
}

type Found = io::Result<Option<&'static str>>;

const FLAGS: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

impl Comparison {
    fn directories(&mut self, left: OwnedFd, right: OwnedFd) -> Found {
        if attributes(&left)? != attributes(&right)? {
            return Ok(Some("extended attributes"));
        }
        let (mut left, mut right) = (Dir::from_fd(left)?, Dir::from_fd(right)?);
        let (names, others) = (names(&mut left)?, names(&mut right)?);
        let mut both = names.iter().chain(&others).collect::<Vec<_>>();
        both.sort_unstable();
        both.dedup();
        for name in both {
            self.path.push(name.clone());
            if names.binary_search(name).is_err() || others.binary_search(name).is_err() {
                return Ok(Some("existence"));
            }
            if let Some(what) = self.entries(&left, &right, name)? {
                return Ok(Some(what));
            }
            self.path.pop();
        }
        Ok(None)
    }

    fn entries(&mut self, left: &Dir, right: &Dir, name: &[u8]) -> Found {
        let a = fstatat(left, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let b = fstatat(right, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if let Some(what) = self.objects(&a, &b) {
            return Ok(Some(what));
        }
        let open = |dir: &Dir| openat(dir, name, FLAGS, Mode::empty());
        match SFlag::from_bits_truncate(a.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => self.directories(open(left)?, open(right)?),
            SFlag::S_IFREG => self.files(open(left)?, open(right)?),
            SFlag::S_IFLNK => {
                let same = readlinkat(left, name)? == readlinkat(right, name)?;
                Ok((!same).then_some("link target"))
            }
            _ => Ok(None),
        }
    }

    /// Compares what the inodes say.
    fn objects(&mut self, a: &FileStat, b: &FileStat) -> Option<&'static str> {
        let kind = |stat: &FileStat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if kind(a) != kind(b) {
            return Some("kind");
        }
        if a.st_mode != b.st_mode {
            return Some("mode");
        }
        if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid) {
            return Some("owner");
        }
        if (a.st_mtime, a.st_mtime_nsec) != (b.st_mtime, b.st_mtime_nsec) && kind(a) != SFlag::S_IFCHR {
            return Some("modification time");
        }
        if a.st_rdev != b.st_rdev {
            return Some("device number");
        }
        if kind(a) == SFlag::S_IFDIR {
            return None;
        }
        if a.st_size != b.st_size {
            return Some("size");
        }
        if a.st_nlink != b.st_nlink {
            return Some("number of links");
        }
        let linked = *self.links.entry(a.st_ino).or_insert(b.st_ino);
        (a.st_nlink > 1 && linked != b.st_ino).then_some("links")
    }

    fn files(&mut self, left: OwnedFd, right: OwnedFd) -> Found {
        if attributes(&left)? != attributes(&right)? {
            return Ok(Some("extended attributes"));
        }
        let (mut left, mut right) = (File::from(left), File::from(right));
        let [a, b] = &mut self.buffers;
        loop {
            let (read, other) = (fill(&mut left, a)?, fill(&mut right, b)?);
            if a[..read] != b[..other] {
                return Ok(Some("content"));
            }
            if read == 0 {
                return Ok(None);
            }
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn names(dir: &mut Dir) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in dir.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns the extended attributes that a layer may have; those of the host's security modules are the host's.
fn attributes(fd: &OwnedFd) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let names = match sys::flistxattr(fd.as_fd()) {
        Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    let ours = |name: &&[u8]| {
        *name == b"security.capability" || name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.")
    };
    let mut found = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(ours) {
        let name = CString::new(name).expect("it was split at NUL");
        let value = sys::fgetxattr(fd.as_fd(), &name)?;
        found.push((name, value));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;

    /// What is found after a change.
    type Case<'c> = (&'static str, &'c dyn Fn(&Path));

    fn tree(root: &Path) {
        fs::create_dir_all(root.join("d/e")).expect("create");
        fs::write(root.join("d/f"), "content").expect("write");
        fs::hard_link(root.join("d/f"), root.join("d/g")).expect("link");
        fs::write(root.join("h"), "content").expect("write");
        fs::hard_link(root.join("h"), root.join("i")).expect("link");
        symlink("target", root.join("l")).expect("symlink");
        set_times(root);
    }

    /// Gives everything one time, so that only what a case changes differs.
    fn set_times(path: &Path) {
        use nix::sys::stat::{UtimensatFlags, utimensat};
        use nix::sys::time::TimeSpec;
        let time = TimeSpec::new(1000, 5);
        if fs::symlink_metadata(path).expect("stat").is_dir() {
            fs::read_dir(path).expect("read").for_each(|entry| set_times(&entry.expect("entry").path()));
        }
        let at = nix::fcntl::AT_FDCWD;
        utimensat(at, path, &time, &time, UtimensatFlags::NoFollowSymlink).expect("set time");
    }

    #[test]
    fn every_change_is_found_where_it_is() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (left, right) = (dir.path().join("left"), dir.path().join("right"));
        tree(&left);
        let compare = |change: &dyn Fn(&Path)| {
            drop(fs::remove_dir_all(&right));
            tree(&right);
            change(&right);
            let open = |path: &Path| File::open(path).expect("open").into();
            let found = difference(open(&left), open(&right)).expect("compare");
            found.map_or_else(String::new, |Difference { path, what }| format!("{path}: {what}"))
        };
        assert_eq!(compare(&|_| {}), "");
        let write = |text: &'static str| {
            move |root: &Path| {
                fs::write(root.join("d/f"), text).expect("write");
                set_times(root);
            }
        };
        let later = SystemTime::UNIX_EPOCH + Duration::new(1000, 6);
        let cases: [Case<'_>; 11] = [
            ("/d/f: content", &write("cOntent")),
            ("/d/f: size", &write("contents")),
            ("/h: mode", &|root| {
                fs::set_permissions(root.join("h"), fs::Permissions::from_mode(0o4644)).expect("chmod");
            }),
            ("/h: modification time", &|root| {
                File::open(root.join("h")).and_then(|file| file.set_modified(later)).expect("set time");
            }),
            ("/: modification time", &|root| {
                File::open(root).and_then(|file| file.set_modified(later)).expect("set time");
            }),
            ("/x: existence", &|root| {
                fs::write(root.join("x"), "").expect("write");
                set_times(root);
            }),
            ("/d/e: existence", &|root| {
                fs::remove_dir(root.join("d/e")).expect("remove");
                set_times(root);
            }),
            ("/l: link target", &|root| {
                fs::remove_file(root.join("l")).expect("remove");
                symlink("tarGet", root.join("l")).expect("symlink");
                set_times(root);
            }),
            ("/d/e: kind", &|root| {
                fs::remove_dir(root.join("d/e")).expect("remove");
                fs::write(root.join("d/e"), "").expect("write");
                set_times(root);
            }),
            ("/d/g: number of links", &|root| {
                fs::remove_file(root.join("d/g")).expect("remove");
                fs::write(root.join("d/g"), "content").expect("write");
                set_times(root);
            }),
            ("/h: links", &|root| {
                // The names of two files change places.
                for name in ["d/g", "h"] {
                    fs::remove_file(root.join(name)).expect("remove");
                }
                fs::hard_link(root.join("i"), root.join("d/g")).expect("link");
                fs::hard_link(root.join("d/f"), root.join("h")).expect("link");
                set_times(root);
            }),
        ];
        for (expected, change) in cases {
            let found = compare(change);
            // A file with several names differs by each; the first is told.
            assert!(
                found == expected
                    || expected == "/d/g: number of links" && found == "/d/f: number of links"
                    || expected == "/h: links" && found == "/d/g: links",
                "{found} for {expected}"
            );
        }
    }
}
