//! Whether the Pod may run on this node: asked before anything is made, and again whenever that may have changed.

use std::time::Duration;

use podrun_lifecycle::{Input, Stage};
use podrun_plan::admission::Admission;
use tokio::io::unix::AsyncFd;

use super::async_fd::readable;
use super::{Done, Supervisor};
use crate::claims::RoomWatch;
use crate::config::Config;
use crate::error::{Error, Result, chain};
use crate::node::node;

/// What cannot be found out is tried again after this time.
const RETRY: Duration = Duration::from_secs(10);

/// What a Pod that waits for room listens to.
pub(super) struct Room {
    watch: RoomWatch,
    fd: AsyncFd<std::os::fd::OwnedFd>,
}

/// Waits until there may be more room; for ever where nobody waits for it.
pub(super) async fn next_room(room: Option<&Room>) {
    let Some(room) = room else { return std::future::pending().await };
    if let Ok(mut guard) = room.fd.readable().await {
        guard.clear_ready();
    }
    room.watch.clear();
}

impl Supervisor {
    /// Looks whether the Pod may run now and tells the machine; a Pod that may not waits.
    pub(super) fn seek_room(&mut self) {
        if self.machine.stage() != Stage::New {
            return;
        }
        let refused = match self.look_for_room() {
            Ok(Admission::Fits) => {
                self.inputs.push_back(Input::Created);
                None
            }
            Ok(Admission::Rejected(rejection)) => {
                let (reason, message) = (rejection.reason.to_owned(), rejection.message);
                self.inputs.push_back(Input::Rejected { reason, message });
                None
            }
            Ok(Admission::Unschedulable { message }) => Some(message),
            Err(error) => {
                let done = self.done.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(RETRY).await;
                    // The loop is gone only when the process is ending.
                    let _ = done.send(Done::Room).await;
                });
                Some(chain(&error))
            }
        };
        match refused {
            None => self.room = None,
            // The same words again are no news.
            Some(message) if self.refused.as_ref() != Some(&message) => {
                self.refused = Some(message.clone());
                self.inputs.push_back(Input::Unschedulable { message });
            }
            Some(_) => {}
        }
    }

    fn look_for_room(&mut self) -> Result<Admission> {
        self.look_at_node();
        let admission = self.claims.admit(&self.pod, &self.node)?;
        if self.room.is_some() || !matches!(admission, Admission::Unschedulable { .. }) {
            return Ok(admission);
        }
        // Looked at once more now that it is watched: nothing that changes in between is missed.
        let watch = self.claims.watch(&self.paths.config)?;
        let fd = readable(std::os::fd::AsFd::as_fd(&watch))
            .map_err(|source| Error::io("watch", &self.paths.data, source))?;
        self.room = Some(Room { watch, fd });
        self.look_at_node();
        self.claims.admit(&self.pod, &self.node)
    }

    /// Takes note of what the configuration says now. One that cannot be read does not stop Pods that exist: whoever
    /// creates the next one is told.
    pub(super) fn look_at_node(&mut self) {
        let config = Config::load(&self.paths.config_file()).unwrap_or_else(|error| {
            super::fail(&error);
            Config::default()
        });
        self.node = node(&self.paths, &self.record.options, &config.node);
    }
}
