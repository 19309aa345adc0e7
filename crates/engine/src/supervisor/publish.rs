//! Telling watchers, and writing down where things stand.

use std::sync::Arc;

use podrun_lifecycle::PodEvent;

use super::{Saved, Supervisor, fail};
use crate::error::Result;
use crate::memory;
use crate::protocol::Message;
use crate::record::{Published, write_json};

impl Supervisor {
    pub(super) fn emit(&mut self, event: PodEvent) {
        let record = self.events.add(event).clone();
        self.dirty = true;
        // No watcher is not an error.
        let _ = self.messages.send(Arc::new(Message::Event { event: record }));
    }

    /// Tells watchers of a new status; the file follows in [`Self::save`].
    pub(super) fn publish(&mut self) {
        let mut status = self.machine.status();
        // A rejected Pod has no conditions, and is not on this host in any sense.
        if !status.conditions.is_empty() {
            status.host_ips = self.host_addresses.iter().map(ToString::to_string).collect();
        }
        if status == self.published.status && !self.dirty {
            return;
        }
        self.published.status = status;
        self.published.events = self.events.records().to_vec();
        self.dirty = true;
        let told = {
            let told = self.present.borrow();
            told.status == self.published.status && told.deletion == self.published.deletion
        };
        if !told {
            // No watcher is not an error.
            let _ = self.messages.send(Arc::new(status_message(&self.published)));
        }
        self.present.send_replace(self.published.clone());
    }

    pub(super) fn save(&mut self) {
        if self.finished && !self.published.finished {
            self.published.finished = true;
            self.dirty = true;
        }
        if self.unrecorded {
            self.dirty = false;
        }
        if self.dirty {
            let durable = self.published.status.phase.is_terminal();
            let result = self.records.publish(&self.pod.meta.uid, &self.published, durable);
            Self::warn_on_error(result);
            self.dirty = false;
        }
        let written = self.save_state(!self.forgettable.is_empty());
        if written.is_ok() {
            for id in std::mem::take(&mut self.forgettable) {
                self.forget(&id);
            }
            for waiting in self.waiting.drain(..) {
                // Whoever has gone away does not want to know.
                let _ = waiting.send(Ok(()));
            }
        }
        Self::warn_on_error(written);
    }

    pub(super) fn save_state(&mut self, durable: bool) -> Result<()> {
        if self.unrecorded {
            return Ok(());
        }
        Self::warn_on_error(self.journal.write(&self.record.pod, &self.machine));
        let state = self.machine.state().clone();
        let (boot_id, stop_signals) = (self.boot_id.clone(), self.stop_signals.clone());
        let saved = Saved { boot_id, ahead: self.ahead, state, stop_signals };
        write_json(&self.paths.pod_data(&self.pod.meta.uid).join("state.json"), &saved, durable)
    }

    /// Does what the start had no time for: makes the record last, and gives memory back.
    pub(super) fn settle(&self) {
        let (records, pod) = (self.records.clone(), self.pod.clone());
        tokio::task::spawn_blocking(move || Self::warn_on_error(records.sync(&pod)));
        memory::release();
    }

    /// Notes an error that does not stop the supervisor in its log.
    pub(super) fn warn_on_error(result: Result<()>) {
        if let Err(error) = result {
            fail(&error);
        }
    }
}

fn status_message(published: &Published) -> Message {
    Message::Status { status: Box::new(published.status.clone()), deletion: published.deletion }
}
