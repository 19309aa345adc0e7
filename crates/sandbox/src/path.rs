//! Walks below a directory that a container controls, which end inside it whatever the container does meanwhile.
//!
//! Everything goes through [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html): the kernel resolves the
//! whole path with the directory as its root, so there is no moment between a check and a use.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};

/// As many symbolic links as the kernel follows in one walk (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// A rename or mount somewhere makes the kernel unsure about `..`; it asks to try again.
const MAX_TRIES: u32 = 64;

/// How symbolic links and `..` are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// The directory is the root: links are followed and stay inside, as for a process that lives there.
    InRoot,
    /// A path or link that leads out of the directory is refused with `EXDEV`.
    Beneath,
    /// Any symbolic link is refused with `ELOOP`, and leaving the directory with `EXDEV`.
    NoLinks,
}

impl Walk {
    fn flags(self) -> ResolveFlag {
        ResolveFlag::RESOLVE_NO_MAGICLINKS
            | match self {
                Self::InRoot => ResolveFlag::RESOLVE_IN_ROOT,
                Self::Beneath => ResolveFlag::RESOLVE_BENEATH,
                Self::NoLinks => ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS,
            }
    }
}

/// Opens `path` below `dir`. The descriptor is close-on-exec.
///
/// # Errors
///
/// `ENOENT`, `ENOTDIR`, `EACCES` as ever; `EXDEV` and `ELOOP` as told by `walk`.
#[doc(alias = "openat2")]
pub fn open(dir: BorrowedFd<'_>, path: &Path, flags: OFlag, walk: Walk) -> io::Result<OwnedFd> {
    let path = match walk {
        Walk::InRoot => path,
        // RESOLVE_BENEATH refuses absolute paths, and "/x" below a volume means "x".
        Walk::Beneath | Walk::NoLinks => path.strip_prefix("/").unwrap_or(path),
    };
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(walk.flags());
    for _ in 0..MAX_TRIES {
        match openat2(dir, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::EAGAIN.into())
}

/// Opens the directory `path` below `root` with `O_PATH`, after making it and its parents where they are missing.
///
/// Symbolic links are followed inside `root`, dangling ones by making what they name, as container runtimes do for
/// the targets of mounts.
///
/// # Errors
///
/// `ENOTDIR` if something else is there, `ELOOP` for too many links, and those of mkdir(2).
pub fn make_dir(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
    make(root, path, Node::Directory(mode), &mut 0)
}

/// Opens what is at `path` below `root` with `O_PATH`, after making an empty file where nothing is.
///
/// # Errors
///
/// As [`make_dir`].
pub fn make_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    make(root, path, Node::File, &mut 0)
}

#[derive(Clone, Copy)]
enum Node {
    Directory(Mode),
    File,
}

fn make(root: BorrowedFd<'_>, path: &Path, node: Node, links: &mut u32) -> io::Result<OwnedFd> {
    let flags = match node {
        Node::Directory(_) => OFlag::O_PATH | OFlag::O_DIRECTORY,
        Node::File => OFlag::O_PATH,
    };
    for _ in 0..MAX_TRIES {
        match open(root, path, flags, Walk::InRoot) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            result => return result,
        }
        // A trailing slash or dot has no file name of its own: Path has dropped it already.
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::ENOENT.into());
        };
        let mode = match node {
            Node::Directory(mode) => mode,
            Node::File => Mode::from_bits_truncate(0o755),
        };
        let parent_dir = make(root, parent, Node::Directory(mode), links)?;
        let made = match node {
            Node::Directory(mode) => mkdirat(&parent_dir, name, mode),
            Node::File => mknodat(&parent_dir, name, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0),
        };
        match made {
            // Opened by the walk of the next round: who swaps the name meanwhile is still kept inside.
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                if let Some(target) = link_target(parent_dir.as_fd(), parent, name)? {
                    *links += 1;
                    if *links > MAX_LINKS {
                        return Err(Errno::ELOOP.into());
                    }
                    return make(root, &target, node, links);
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EAGAIN.into())
}

/// Returns where the symbolic link `name` leads, as a path from the root, or none if it is no link (any more).
fn link_target(dir: BorrowedFd<'_>, parent: &Path, name: &OsStr) -> io::Result<Option<PathBuf>> {
    match readlinkat(dir, name) {
        Ok(target) => {
            let target = PathBuf::from(target);
            Ok(Some(if target.is_absolute() { target } else { parent.join(target) }))
        }
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens the directory `name` directly below `root`, made where it is missing, and refuses anything else: mounts that
/// the kernel's own files are reached through must not be moved by a symbolic link of the image.
///
/// # Errors
///
/// `ELOOP` for a symbolic link, `ENOTDIR` for anything else that is no directory.
pub fn make_plain_dir(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    match open(root, path, flags, Walk::NoLinks) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        result => return result,
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    let name = relative.file_name().ok_or(Errno::ENOENT)?;
    let made = match relative.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        None => mkdirat(root, name, Mode::from_bits_truncate(0o755)),
        Some(parent) => mkdirat(make_plain_dir(root, parent)?, name, Mode::from_bits_truncate(0o755)),
    };
    match made {
        Ok(()) | Err(Errno::EEXIST) => open(root, path, flags, Walk::NoLinks),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns whether a path has no component that a kernel object's name may not have: for names that become paths.
pub fn is_plain_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= 255
        && !name.as_bytes().iter().any(|b| matches!(b, b'/' | 0))
}

/// Returns the components of an absolute path of a container, without empty ones and `.`, for sorting and comparing.
pub fn components(path: &str) -> impl Iterator<Item = &OsStr> {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).map(|part| OsStr::from_bytes(part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use podrun_testkit::TempRoot;

    use super::*;

    const DIR: Mode = Mode::S_IRWXU;

    #[test]
    fn what_is_made_is_made_inside_whatever_links_say() {
        let temp = TempRoot::new();
        let root = temp.path().join("root");
        fs::create_dir(&root).expect("mkdir");
        fs::write(root.join("file"), "").expect("write");
        for (name, target) in [
            ("absolute", "/made/by/absolute"),
            ("up", "../../../made/by/up"),
            ("out", "/../../outside"),
            ("chain", "absolute/more"),
            ("loop", "loop"),
            ("ping", "pong/x"),
            ("pong", "ping/x"),
        ] {
            symlink(target, root.join(name)).expect("symlink");
        }
        let dir = File::open(&root).expect("open");
        let table = [
            ("/a/b", Ok("a/b")),
            ("a//./b", Ok("a/b")),
            ("/absolute", Ok("made/by/absolute")),
            ("/up/x", Ok("made/by/up/x")),
            ("/out/x", Ok("outside/x")),
            ("/chain", Ok("made/by/absolute/more")),
            ("/../../escaped", Ok("escaped")),
            ("/", Ok("")),
            ("/file", Err(libc::ENOTDIR)),
            ("/file/x", Err(libc::ENOTDIR)),
            ("/loop", Err(libc::ELOOP)),
            ("/ping", Err(libc::ELOOP)),
        ];
        for (path, expected) in table {
            let made = make_dir(dir.as_fd(), Path::new(path), DIR);
            let made = made.map(|_| ()).map_err(|error| error.raw_os_error());
            assert_eq!(made, expected.map(|_| ()).map_err(Some), "{path}");
            if let Ok(inside) = expected {
                assert!(root.join(inside).is_dir(), "{path} is {inside}");
            }
        }
        make_file(dir.as_fd(), Path::new("/up/new/file")).expect("made");
        assert!(root.join("made/by/up/new/file").is_file());
        let names: Vec<_> =
            fs::read_dir(temp.path()).expect("there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["root"], "nothing was made outside");
        temp.close();
    }

    #[test]
    fn plain_directories_are_not_reached_through_links() {
        let temp = TempRoot::new();
        symlink("/tmp", temp.path().join("link")).expect("symlink");
        fs::write(temp.path().join("file"), "").expect("write");
        let dir = File::open(temp.path()).expect("open");
        let table = [
            ("/proc", None),
            ("new/er", None),
            ("/link", Some(libc::ELOOP)),
            ("/link/x", Some(libc::ELOOP)),
            ("file", Some(libc::ENOTDIR)),
            ("../up", Some(libc::EXDEV)),
        ];
        for (path, expected) in table {
            let errno =
                make_plain_dir(dir.as_fd(), Path::new(path)).err().and_then(|error| error.raw_os_error());
            assert_eq!(errno, expected, "{path}");
        }
        temp.close();
    }

    #[test]
    fn names_and_components() {
        for (name, plain) in
            [("a", true), ("..", false), (".", false), ("", false), ("a/b", false), ("a\0", false)]
        {
            assert_eq!(is_plain_name(name), plain, "{name:?}");
        }
        assert_eq!(components("//a/./b/").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(components("/").count(), 0);
    }
}
