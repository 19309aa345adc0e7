//! How directories look that a layer has something in and does not list.
//!
//! A layer may bring `tmp/x` and say nothing about `tmp`. Its unpacked directory needs a `tmp` all the same, and overlayfs
//! shows that one's mode, owner and time in place of those of the layers below: `/tmp` would be closed to users. So an
//! image with such layers gets one directory more on top, which has nothing but these directories, as the layers below
//! have them. It depends on all layers of the image and is kept by their chain.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};

use super::facts::{self, LayerFacts};
use super::session::make_layer_dir;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits;
use crate::protection::Protection;
use crate::sys::{self, DIRECTORY};
use crate::unpack::implied::{self, cost};

/// Returns the digest that stands for layers on top of each other, the lowest first; see "ChainID" in the OCI image
/// specification.
pub(crate) fn chain_id(diff_ids: &[Digest]) -> Option<Digest> {
    let (first, rest) = diff_ids.split_first()?;
    Some(rest.iter().fold(*first, |chain, next| Digest::of(format!("{chain} {next}").as_bytes())))
}

/// A layer to look into.
struct Layer {
    root: OwnedFd,
    /// Directories that it has without saying how they look.
    implied: Vec<Vec<u8>>,
}

/// How a directory is to look.
struct Look {
    stat: FileStat,
    xattrs: Vec<(CString, Vec<u8>)>,
}

/// Makes `to` with the directories that need a look of the layers below; the layers' paths have the lowest first.
///
/// There is no `diff` in it if there are none.
pub(super) fn make(layers: &[PathBuf], to: &Path) -> Result<()> {
    std::fs::create_dir(to).map_err(Error::file("create directory", to))?;
    let mut opened: Vec<Layer> = Vec::with_capacity(layers.len());
    let mut remembered = 0;
    for path in layers {
        let (layer, opaque_root) = Layer::open(path)?;
        if opaque_root {
            opened.clear();
            remembered = 0;
        }
        // Before the next one is read: each alone may have all that there is.
        remembered += layer.implied.iter().map(|path| cost(path)).sum::<u64>();
        if remembered > limits::MAX_IMPLIED_BYTES && Protection::ImpliedInAll.is_on() {
            let (unit, max) = (implied::UNIT, limits::MAX_IMPLIED_BYTES);
            return Err(Error::Limit { subject: "image".to_owned(), unit, max });
        }
        opened.push(layer);
    }
    let layers = opened;
    let wanted = wanted(&layers).map_err(Error::file("join layers for", to))?;
    if wanted.is_empty() {
        return Ok(());
    }
    let root = make_layer_dir(to)?;
    build(&root, &layers, &wanted).map_err(Error::file("join layers in", to))
}

/// Finds the directories that do not look as they should, and those above them. How they look is not kept: attributes
/// can be large.
fn wanted(layers: &[Layer]) -> nix::Result<BTreeSet<&[u8]>> {
    let mut wanted = BTreeSet::new();
    for path in layers.iter().flat_map(|layer| &layer.implied) {
        if wanted.contains(path.as_slice()) {
            continue;
        }
        match borrowed(layers, path)? {
            // Nearly every layer says nothing about the root, whose time alone is not worth a layer more.
            Some(look) if path.is_empty() && look.is_plain() => {}
            Some(_) => {
                for parent in parents(path) {
                    if !wanted.contains(parent) && visible(layers, parent)?.is_some() {
                        wanted.insert(parent);
                    }
                }
                wanted.insert(path);
            }
            None => {}
        }
    }
    if !wanted.is_empty() && visible(layers, b"")?.is_some() {
        wanted.insert(b"");
    }
    Ok(wanted)
}

/// Returns every directory above `path` but the root, the topmost first.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(end, _)| &path[..end])
}

impl Layer {
    /// Opens an unpacked layer, and tells whether it hides all below it.
    fn open(path: &Path) -> Result<(Self, bool)> {
        let diff = path.join("diff");
        let root = File::open(&diff).map_err(Error::file("open", &diff))?;
        Ok((
            Self { root: root.into(), implied: facts::implied(path)? },
            LayerFacts::read_in(path)?.opaque_root,
        ))
    }

    /// Looks for the directory `path`.
    fn look(&self, path: &[u8]) -> nix::Result<Seen> {
        let mut dir = self.root.try_clone().map_err(|_| Errno::last())?;
        let mut hides = false;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            hides |= is_opaque(&dir);
            match fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR => {}
                // A whiteout or something else in its place: the layers below are not seen here.
                Ok(_) => return Ok(Seen::Hidden),
                Err(Errno::ENOENT) if hides => return Ok(Seen::Hidden),
                Err(Errno::ENOENT) => return Ok(Seen::Nothing),
                Err(error) => return Err(error),
            }
            dir = openat(&dir, name, DIRECTORY, Mode::empty())?;
        }
        let look = Look { stat: fstat(&dir)?, xattrs: xattrs(&dir)? };
        let listed = self.implied.binary_search_by(|one| one.as_slice().cmp(path)).is_err();
        Ok(Seen::Directory { look, listed, hides })
    }
}

impl Look {
    /// Whether this is how a directory looks that nothing is said about, but for its time.
    fn is_plain(&self) -> bool {
        self.stat.st_mode & 0o7777 == 0o755
            && (self.stat.st_uid, self.stat.st_gid) == (0, 0)
            && self.xattrs.is_empty()
    }
}

/// What a layer has at the place of a directory.
enum Seen {
    Directory {
        look: Look,
        /// It says how the directory looks.
        listed: bool,
        /// What the layers below have is not seen, though it is a directory there too.
        hides: bool,
    },
    Nothing,
    Hidden,
}

/// Returns how the directory should look if that is not how the topmost layer that has it shows it.
fn borrowed(layers: &[Layer], path: &[u8]) -> nix::Result<Option<Look>> {
    let mut topmost = true;
    for layer in layers.iter().rev() {
        match layer.look(path)? {
            Seen::Directory { listed: true, .. } if topmost => return Ok(None),
            Seen::Directory { listed: true, look, .. } => return Ok(Some(look)),
            Seen::Directory { hides: true, .. } | Seen::Hidden => return Ok(None),
            Seen::Directory { .. } => topmost = false,
            Seen::Nothing => {}
        }
    }
    Ok(None)
}

/// Returns how a directory of the image looks, if it is one.
fn visible(layers: &[Layer], path: &[u8]) -> nix::Result<Option<Look>> {
    if let Some(look) = borrowed(layers, path)? {
        return Ok(Some(look));
    }
    for layer in layers.iter().rev() {
        match layer.look(path)? {
            Seen::Directory { look, .. } => return Ok(Some(look)),
            Seen::Hidden => return Ok(None),
            Seen::Nothing => {}
        }
    }
    Ok(None)
}

fn is_opaque(dir: &OwnedFd) -> bool {
    sys::xattr_is(dir.as_fd(), c"trusted.overlay.opaque", b"y").is_ok_and(|opaque| opaque)
}

/// Returns the extended attributes that a layer may have on a directory.
fn xattrs(dir: &OwnedFd) -> nix::Result<Vec<(CString, Vec<u8>)>> {
    let names = match sys::flistxattr(dir.as_fd()) {
        Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    let names = names.split(|&byte| byte == 0).filter(|name| name.starts_with(b"user."));
    names
        .map(|name| {
            let name = CString::new(name).expect("it was split at NUL");
            let value = sys::fgetxattr(dir.as_fd(), &name)?;
            Ok((name, value))
        })
        .collect()
}

/// Makes the directories below `root`, parents first, and gives them their looks, children first.
fn build(root: &OwnedFd, layers: &[Layer], wanted: &BTreeSet<&[u8]>) -> nix::Result<()> {
    let mut made = Vec::with_capacity(wanted.len());
    for &path in wanted {
        // Nothing in this tree is a link. A parent that is no directory of the image was not made.
        match if path.is_empty() { Ok(()) } else { mkdirat(root, path, Mode::S_IRWXU) } {
            Ok(()) => made.push(path),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    for path in made.into_iter().rev() {
        let Some(Look { stat, xattrs }) = visible(layers, path)? else { continue };
        let name = if path.is_empty() { b".".as_slice() } else { path };
        let fd = openat(root, name, DIRECTORY, Mode::empty())?;
        fchown(&fd, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        for (name, value) in xattrs {
            sys::fsetxattr(fd.as_fd(), &name, &value)?;
        }
        fchmod(&fd, Mode::from_bits_truncate(stat.st_mode & 0o7777))?;
        let time = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
        futimens(&fd, &time, &time)?;
    }
    Ok(())
}
