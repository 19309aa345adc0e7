//! Events on their way to a supervisor that may be slow.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use podrun_sandbox::protocol::{Channel, Event, Packet, encode};

/// A supervisor that lets so many events wait does not live. The next one gets the snapshot.
const MAX: usize = 4096;

/// Events in order.
#[derive(Default)]
pub(super) struct Outbox {
    events: VecDeque<(Packet, Vec<OwnedFd>)>,
    waiting: bool,
}

impl Outbox {
    /// Adds an event; returns whether there was room for it.
    pub(super) fn push(&mut self, event: &Event, fds: Vec<OwnedFd>) -> bool {
        let room = self.events.len() < MAX;
        match encode(event) {
            Ok(packet) if room => self.events.push_back((packet, fds)),
            _ => return false,
        }
        true
    }

    /// Forgets everything: the connection is another.
    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.waiting = false;
    }

    /// Sends what the socket takes. Returns whether to wait for room in it, if that has changed.
    pub(super) fn flush(&mut self, channel: &Channel) -> io::Result<Option<bool>> {
        while let Some((packet, fds)) = self.events.front() {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            match channel.try_send(packet, &fds) {
                Ok(()) => drop(self.events.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let waiting = !self.events.is_empty();
        let changed = waiting != self.waiting;
        self.waiting = waiting;
        Ok(changed.then_some(waiting))
    }
}
