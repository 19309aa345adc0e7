//! Whether the Pod may run on this node: asked before anything is made, and again whenever that may have changed.

use std::time::Duration;

use podrun_lifecycle::{Input, Stage};
use podrun_plan::admission::{Admission, Claim, Listener, PortHolder};
use podrun_plan::model::Attachment;
use tokio::io::unix::AsyncFd;

use super::async_fd::readable;
use super::{Done, Supervisor};
use crate::claims::RoomWatch;
use crate::config::Config;
use crate::error::{Error, Result, chain};
use crate::held_back::PORT_TAKEN;
use crate::listeners::{listeners, owner, words};
use crate::node::node;

/// What cannot be found out is tried again after this time.
const RETRY: Duration = Duration::from_secs(10);
/// Nobody tells when a process of the machine closes a socket, so it is looked for again after this time.
const LISTENERS: Duration = Duration::from_secs(2);

/// What a Pod that waits for room listens to.
pub(super) struct Room {
    watch: RoomWatch,
    fd: AsyncFd<std::os::fd::OwnedFd>,
    /// Whether it waits for a process to give a port up.
    poll: bool,
}

/// Why a Pod waits, as was told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// In the scheduler's words.
    message: String,
    /// Who has its ports.
    ports: Vec<String>,
}

/// Waits until there may be more room; for ever where nobody waits for it.
pub(super) async fn next_room(room: Option<&Room>) {
    let Some(room) = room else { return std::future::pending().await };
    tokio::select! {
        Ok(mut guard) = room.fd.readable() => guard.clear_ready(),
        () = tokio::time::sleep(LISTENERS), if room.poll => {}
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
                self.tell_of_rivals();
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
        let Some(message) = refused else {
            self.room = None;
            return;
        };
        let ports = self.tell_of_ports();
        let refused = Refused { message: message.clone(), ports };
        // The same words again are no news.
        if self.refused.as_ref() == Some(&refused) {
            return;
        }
        let ports = refused.ports.clone();
        if self.refused.replace(refused).is_none_or(|before| before.message != message) {
            self.inputs.push_back(Input::Unschedulable { message });
        }
        for text in ports {
            self.warn(PORT_TAKEN, text, None);
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
        self.room = Some(Room { watch, fd, poll: false });
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
        // In the machine's own network bind(2) decides, and may let several share a port.
        if matches!(self.plan.sandbox.network.attachment, Attachment::Bridge(_)) {
            self.node.listeners = self.listeners();
        }
    }

    /// Returns the sockets that the Pod's ports may take something from. What cannot be read is in nobody's way.
    fn listeners(&self) -> Vec<Listener> {
        if Claim::of(&self.pod).ports.is_empty() {
            return Vec::new();
        }
        listeners().unwrap_or_else(|error| {
            super::fail(&error);
            Vec::new()
        })
    }

    /// Returns who has the ports that the Pod wants, and remembers whether a process does.
    fn tell_of_ports(&mut self) -> Vec<String> {
        let taken = self.claims.taken_ports(&self.pod, &self.node.listeners).unwrap_or_default();
        if let Some(room) = &mut self.room {
            room.poll = taken.iter().any(|port| matches!(port.holder, PortHolder::Socket(_)));
        }
        taken.iter().map(|port| words(port, |uid| self.records.name_of(uid), owner)).collect()
    }

    /// Tells of processes that listen where a Pod in the machine's own network is going to.
    fn tell_of_rivals(&mut self) {
        if self.plan.sandbox.network.attachment != Attachment::Host {
            return;
        }
        let taken = self.claims.taken_ports(&self.pod, &self.listeners()).unwrap_or_default();
        for port in taken {
            let text = words(&port, |uid| self.records.name_of(uid), owner);
            self.warn(PORT_TAKEN, text, None);
        }
    }
}
