//! One supervisor per Pod: the one that holds the lock.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Error, Result};
use crate::paths::{create_private_dir, open_lock};

/// The lock of a Pod, held by its supervisor for as long as it lives. The kernel lets go of it if it is killed.
///
/// It belongs to the open file ("open file description locks" in fcntl(2)), not to the process: unlike flock(2) these
/// can be looked at without being taken, and whoever only looks cannot keep the next supervisor out.
#[derive(Debug)]
pub(crate) struct SupervisorLock {
    file: File,
}

impl SupervisorLock {
    /// Takes the lock; none where somebody else has it.
    ///
    /// # Errors
    /// Any errno of making the directory or the file.
    pub(crate) fn acquire(run_dir: &Path) -> Result<Option<Self>> {
        let path = run_dir.join("lock");
        loop {
            create_private_dir(run_dir)?;
            let file = match open_lock(&path) {
                // Removed with the last Pod of this name between the two calls.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
                Err(errno) => return Err(Error::io("lock", &path, errno.into())),
            }
            // A file that has been removed since it was opened keeps nobody out.
            let lock = Self { file };
            if lock.is_of(run_dir) {
                return Ok(Some(lock));
            }
        }
    }

    /// Returns whether this is the lock that others find there: the file may have been removed.
    pub(crate) fn is_of(&self, run_dir: &Path) -> bool {
        let identity = |found: io::Result<fs::Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
        let ours = identity(self.file.metadata());
        ours.is_some() && ours == identity(fs::metadata(run_dir.join("lock")))
    }

    /// Returns whether somebody has it.
    pub(crate) fn is_held(run_dir: &Path) -> bool {
        // Without the file, or the rights to open it, nobody that we could talk to holds it.
        let Ok(file) = File::open(run_dir.join("lock")) else { return false };
        let mut found = whole_file();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found)).is_ok() && i32::from(found.l_type) != libc::F_UNLCK
    }
}

/// Returns the lock that excludes every other one.
fn whole_file() -> libc::flock {
    #[expect(clippy::cast_possible_truncation, reason = "the constants are small; their C type differs")]
    libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_supervisor_is_kept_out_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!SupervisorLock::is_held(dir.path()));
        let first = SupervisorLock::acquire(dir.path()).unwrap();
        assert!(first.is_some() && SupervisorLock::is_held(dir.path()));
        assert!(SupervisorLock::acquire(dir.path()).unwrap().is_none());
        drop(first);
        assert!(!SupervisorLock::is_held(dir.path()));
        assert!(SupervisorLock::acquire(dir.path()).unwrap().is_some());
    }

    #[test]
    fn looking_never_keeps_a_supervisor_out() {
        let dir = tempfile::tempdir().unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        SupervisorLock::is_held(dir.path());
                    }
                });
            }
            let kept_out = (0..2000).filter(|_| SupervisorLock::acquire(dir.path()).unwrap().is_none());
            let kept_out = kept_out.count();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(kept_out, 0);
        });
    }

    #[test]
    fn the_lock_of_a_removed_file_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let first = SupervisorLock::acquire(dir.path()).unwrap();
        fs::remove_file(dir.path().join("lock")).unwrap();
        let second = SupervisorLock::acquire(dir.path()).unwrap();
        assert!(first.is_some() && second.is_some());
        assert!(SupervisorLock::is_held(dir.path()), "the file that is there is locked");
    }
}
