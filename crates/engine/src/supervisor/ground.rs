//! The ground that a supervisor stands on: the Pod's record, and its own lock and socket. Somebody may take either away.
//!
//! A Pod without a record is no Pod any more: it is ended with its own grace period and cleaned up, as a kubelet does
//! with one that has vanished from the API server. Where only lock and socket are gone the supervisor makes them again;
//! if another supervisor has been quicker, it leaves the Pod to that one.

use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use podrun_lifecycle::{EventKind, Input, PodEvent};
use tokio::io::unix::AsyncFd;

use super::async_fd::readable;
use super::server::{self, Hub};
use super::{Supervisor, SupervisorLock};
use crate::clock;
use crate::error::{Error, Result};
use crate::paths::Paths;

/// Tells when something is removed of what a supervisor stands on.
pub(super) struct Ground {
    inotify: Inotify,
    fd: AsyncFd<OwnedFd>,
}

impl Ground {
    fn watch(paths: &Paths, uid: &str) -> Result<Self> {
        let directories = [paths.pod_data(uid), paths.supervisor(uid)];
        let failed = |path: &Path, source| Error::io("watch", path, source);
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|errno| failed(&directories[0], errno.into()))?;
        // Not what is renamed in there: that is how this supervisor itself writes.
        let flags = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        for directory in &directories {
            inotify.add_watch(directory, flags).map_err(|errno| failed(directory, errno.into()))?;
        }
        let fd = readable(inotify.as_fd()).map_err(|source| failed(&directories[0], source))?;
        Ok(Self { inotify, fd })
    }
}

/// Waits until something was removed; for ever where nothing is watched.
pub(super) async fn next_removal(ground: Option<&Ground>) {
    let Some(ground) = ground else { return std::future::pending().await };
    if let Ok(mut guard) = ground.fd.readable().await {
        guard.clear_ready();
    }
    // What it was is looked at anyway.
    while ground.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
}

impl Supervisor {
    /// Starts to watch. Without a watch, of which a machine has so many, the Pod runs all the same.
    pub(super) fn watch_ground(&self) -> Option<Ground> {
        let ground = Ground::watch(&self.paths, &self.pod.meta.uid);
        ground.map_err(|error| super::fail(&error)).ok()
    }

    /// Looks what has been removed and does what follows. Returns the lock, or none where another supervisor has taken
    /// the Pod over.
    pub(super) fn look_at_ground(
        &mut self,
        mut lock: SupervisorLock,
        hub: &Hub,
        ground: &mut Option<Ground>,
    ) -> Result<Option<SupervisorLock>> {
        let run_dir = self.paths.supervisor(&self.pod.meta.uid);
        // Whoever removes these things may still be at it, so that it is looked at again once the new ones are watched.
        loop {
            if !self.unrecorded && !self.records.exists(&self.pod.meta.uid) {
                self.end_without_record();
            }
            if self.unrecorded || (lock.is_of(&run_dir) && server::is_bound(&run_dir)) {
                return Ok(Some(lock));
            }
            if !lock.is_of(&run_dir) {
                let Some(again) = SupervisorLock::acquire(&run_dir)? else { return Ok(None) };
                lock = again;
            }
            match server::serve(&run_dir, hub.clone()) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                bound => bound.map_err(|source| Error::io("bind socket in", &run_dir, source))?,
            }
            *ground = self.watch_ground();
        }
    }

    /// Ends the Pod, of which nothing can be written down any more.
    fn end_without_record(&mut self) {
        self.unrecorded = true;
        let message = "The record of the pod was removed, it is ended".to_owned();
        Self::complain(message.clone());
        self.emit(PodEvent {
            kind: EventKind::Warning,
            reason: "RecordRemoved".to_owned(),
            message,
            field_path: None,
            at: clock::wall(),
        });
        if self.published.deletion.is_none() {
            self.note_deletion(None);
            self.inputs.push_back(Input::Delete { grace_seconds: None });
        }
    }
}
