//! How init learns of a child that somebody else has made for it.

use std::io;

use podrun_namespaces::PidFd;

use crate::sys::{self, Forked, SharedNumber};

/// The birth of a process by a helper. Init sees it at the moment when the process exists: no report that the helper writes
/// afterwards could be sure to come before the end of the process, which is init's to reap.
///
/// The number is in memory of init and helper alone. Whoever takes the new process over cannot claim to be another.
#[derive(Debug)]
pub struct Birth(SharedNumber);

impl Birth {
    /// To be called before the helper is cloned.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn expect() -> io::Result<Self> {
        SharedNumber::new().map(Self)
    }

    /// To be called by init when the helper has been cloned, which is killed if this fails.
    pub(super) fn after_clone(self, helper: &PidFd) -> io::Result<Self> {
        match self.0.keep() {
            Ok(()) => Ok(self),
            Err(error) => {
                // It is an unreaped child, so nothing can refuse the signal; its end is reaped as an orphan's.
                drop(helper.send_signal(libc::SIGKILL));
                Err(error)
            }
        }
    }

    /// Forks the process: the helper's part. Only the new process returns.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if there can be no more processes.
    ///
    /// # Safety
    ///
    /// The calling process must have one thread, and leave by exec or `_exit`.
    pub(super) unsafe fn give(&self) -> io::Result<()> {
        self.0.keep()?;
        // SAFETY: as promised by the caller.
        match unsafe { sys::fork_noted_sibling(&self.0) }? {
            Forked::Parent => sys::exit_now(0),
            Forked::Child => Ok(()),
        }
    }

    /// Returns the id of the process in the caller's pid namespace, once it is there.
    pub fn pid(&self) -> Option<i32> {
        Some(self.0.get()).filter(|pid| *pid > 0)
    }
}
