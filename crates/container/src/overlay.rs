//! The layers of images as file systems: a root, with a directory of the container's own on top, and a volume without.

use std::ffi::{CString, OsStr};
use std::fmt::Write;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use podrun_sandbox::mount::{Attributes, Filesystem, errno};

/// The kernel takes at most this much for one option of fsconfig(2).
const MAX_VALUE: usize = 255;

/// What lies on top of the layers.
enum Top<'a> {
    /// What the container writes, and a directory of overlayfs's own.
    Written { upper: &'a OwnedFd, work: &'a OwnedFd },
    /// Nothing: nobody can write.
    Nothing,
}

/// Returns a detached overlay of `layers`, the lowest first, with `upper` and `work` of `dir`.
///
/// Directories are named by way of descriptors, so that no name of the host's needs escaping or shows up in the
/// container's mount table.
pub(crate) fn mount(layers: &[PathBuf], dir: &Path) -> io::Result<OwnedFd> {
    let layers = open_layers(layers)?;
    let (upper, work) = (open_dir(&dir.join("upper"))?, open_dir(&dir.join("work"))?);
    stack(&layers, &Top::Written { upper: &upper, work: &work })
}

/// Returns a detached overlay of `layers`, the lowest first, that nobody can write to. `empty` is an empty directory.
///
/// A single layer is no exception: what a whiteout in it hides has to stay hidden, and overlayfs, which does that, wants
/// two directories.
pub(crate) fn mount_read_only(layers: &[PathBuf], empty: &Path) -> io::Result<OwnedFd> {
    let mut layers = open_layers(layers)?;
    if layers.len() == 1 {
        layers.push(open_dir(empty)?);
    }
    stack(&layers, &Top::Nothing)
}

/// Opens layers, the lowest first, in the order of overlayfs, which wants the uppermost first.
fn open_layers(layers: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    let layers: Vec<OwnedFd> = layers.iter().rev().map(|path| open_dir(path)).collect::<Result<_, _>>()?;
    if layers.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the image has no layers"));
    }
    Ok(layers)
}

fn stack(layers: &[OwnedFd], top: &Top<'_>) -> io::Result<OwnedFd> {
    let appended = assemble(top, |overlay| append_layers(overlay, layers));
    if !appended.as_ref().is_err_and(|error| errno(error) == Some(libc::EINVAL)) || knows_lower_plus() {
        return appended;
    }
    let full = join(layers, "/proc/self/fd/");
    if full.len() <= MAX_VALUE {
        return assemble(top, |overlay| overlay.set(c"lowerdir", &c_string(full)?));
    }
    let short = join(layers, "");
    if short.len() > MAX_VALUE {
        let text = format!("{} layers are more than this kernel can stack", layers.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    relative_to_fds(|| assemble(top, |overlay| overlay.set(c"lowerdir", &c_string(short)?)))
}

/// Returns whether lower directories can be given one by one. Before Linux 6.8 they are one string.
fn knows_lower_plus() -> bool {
    Filesystem::new(c"overlay").and_then(|overlay| overlay.set(c"lowerdir+", c"/")).is_ok()
}

fn assemble(top: &Top<'_>, set_layers: impl FnOnce(&Filesystem) -> io::Result<()>) -> io::Result<OwnedFd> {
    let overlay = Filesystem::new(c"overlay")?;
    overlay.set(c"source", c"overlay")?;
    set_layers(&overlay)?;
    if let Top::Written { upper, work } = top {
        overlay.set(c"upperdir", &by_fd(upper)?)?;
        overlay.set(c"workdir", &by_fd(work)?)?;
        // The upper directory lives as long as this attempt: nothing has to reach the disk when it ends.
        overlay.flag(c"volatile")?;
    }
    // A layer cannot send a lookup elsewhere by an attribute, whatever wrote the layer.
    overlay.set(c"redirect_dir", c"nofollow")?;
    overlay.set(c"metacopy", c"off")?;
    // Devices are in /dev, which is another mount.
    overlay.mount(match top {
        Top::Written { .. } => Attributes::NODEV,
        Top::Nothing => Attributes::NODEV | Attributes::RDONLY,
    })
}

fn append_layers(overlay: &Filesystem, layers: &[OwnedFd]) -> io::Result<()> {
    layers.iter().try_for_each(|layer| overlay.set(c"lowerdir+", &by_fd(layer)?))
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("open {}: {error}", path.display()))
    })
}

fn by_fd(fd: &OwnedFd) -> io::Result<CString> {
    c_string(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn c_string(text: String) -> io::Result<CString> {
    CString::new(text).map_err(io::Error::from)
}

fn join(layers: &[OwnedFd], prefix: &str) -> String {
    layers.iter().fold(String::new(), |mut text, layer| {
        let colon = if text.is_empty() { "" } else { ":" };
        write!(text, "{colon}{prefix}{}", layer.as_raw_fd()).expect("a string takes everything");
        text
    })
}

/// Runs something on a thread whose working directory, which is not shared with the others, is that of descriptors:
/// the shortest names there are.
fn relative_to_fds<T: Send>(run: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let thread = || {
        unshare(CloneFlags::CLONE_FS)?;
        nix::unistd::chdir(OsStr::new("/proc/self/fd"))?;
        run()
    };
    std::thread::scope(|scope| scope.spawn(thread).join()).unwrap_or_else(|_| Err(Errno::ECANCELED.into()))
}
