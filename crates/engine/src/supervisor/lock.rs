//! One supervisor per Pod: the one that holds the lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::{Error, Result};

/// The lock of a Pod, held by its supervisor for as long as it lives. The kernel lets go of it if it is killed.
#[derive(Debug)]
pub(crate) struct SupervisorLock {
    _file: File,
}

impl SupervisorLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// EWOULDBLOCK where another supervisor has it.
    pub(crate) fn acquire(run_dir: &Path) -> Result<Self> {
        crate::paths::create_private_dir(run_dir)?;
        let path = run_dir.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| Error::io("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(error) => Err(Error::io("lock", &path, error.into())),
        }
    }

    /// Returns whether a supervisor has it.
    pub(crate) fn is_held(run_dir: &Path) -> bool {
        // Without the file, or the rights to open it, nobody that we could talk to holds it.
        let Ok(file) = File::open(run_dir.join("lock")) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
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
        assert!(SupervisorLock::is_held(dir.path()));
        SupervisorLock::acquire(dir.path()).unwrap_err();
        drop(first);
        SupervisorLock::acquire(dir.path()).unwrap();
    }
}
