//! One supervisor per Pod: the one that holds the lock.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};
use crate::paths::{create_private_dir, open_lock};

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
        create_private_dir(run_dir)?;
        let path = run_dir.join("lock");
        let file = open_lock(&path)?;
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
