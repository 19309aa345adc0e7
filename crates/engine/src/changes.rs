//! Learning of Pods that are created and removed, without looking again and again.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::{Error, Result};
use crate::paths::create_private_dir;

/// Is readable when a Pod has been created or removed.
#[derive(Debug)]
pub struct PodChanges {
    inotify: Inotify,
}

impl PodChanges {
    /// A Pod is there for others when it gets its supervisor, and gone when its name is free.
    pub(crate) fn new(supervisors: &Path, names: &Path) -> Result<Self> {
        let failed = |path: &Path, errno: nix::Error| Error::io("watch", path, errno.into());
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|errno| failed(names, errno))?;
        for (path, flags) in [(supervisors, AddWatchFlags::IN_CREATE), (names, AddWatchFlags::IN_DELETE)] {
            create_private_dir(path)?;
            inotify.add_watch(path, flags).map_err(|errno| failed(path, errno))?;
        }
        Ok(Self { inotify })
    }

    /// Takes note of what has happened. What it was is for the caller to look at.
    pub fn clear(&self) {
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

impl AsFd for PodChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
