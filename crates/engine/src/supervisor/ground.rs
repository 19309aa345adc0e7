//! The ground that a supervisor stands on: the Pod's record, and its own lock and socket. Somebody may take either away.
//!
//! A Pod without a record is no Pod any more: it is ended with its own grace period and cleaned up, as a kubelet does
//! with one that has vanished from the API server. Where only lock and socket are gone the supervisor makes them again;
//! if another supervisor has been quicker, it leaves the Pod to that one.

use std::io::ErrorKind;
use std::time::Duration;

use podrun_lifecycle::{EventKind, Input, PodEvent};

use super::server::{self, Hub};
use super::{Supervisor, SupervisorLock};
use crate::clock;
use crate::error::{Error, Result};

/// How often it is looked at. An inotify instance for each Pod would tell at once, but all programs of root share 128 of
/// them (`fs.inotify.max_user_instances`), and a hundred Pods would leave the others without.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Looks what has been removed and does what follows. Returns the lock, or none where another supervisor has taken
    /// the Pod over.
    pub(super) fn look_at_ground(
        &mut self,
        mut lock: SupervisorLock,
        hub: &Hub,
    ) -> Result<Option<SupervisorLock>> {
        let run_dir = self.paths.supervisor(&self.pod.meta.uid);
        // Whoever removes these things may still be at it, so that it is looked at again once there are new ones.
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
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                bound => bound.map_err(|source| Error::io("bind socket in", &run_dir, source))?,
            }
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
