//! Watching Pods through all their supervisors.
//!
//! A supervisor that dies leaves its Pod's phase Unknown until the next one has taken over; whoever watches starts it.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_engine::{Client, Engine, Error, EventRecord, Message, PodView};
use podrun_spec::status::Phase;

use crate::report::{self, warning};

/// So many supervisors in a row may fail to take over.
const LIVES: u32 = 5;

/// What happens to a watched Pod.
#[derive(Debug)]
pub(crate) enum Change {
    /// Its status or deletion, which are in its view now.
    Status,
    /// Something to tell.
    Event(EventRecord),
    /// Nothing more will happen to it.
    Ended {
        /// It is gone; otherwise its records stay.
        removed: bool,
    },
}

/// What ends a wait.
#[derive(Debug)]
pub(crate) enum Next {
    /// Something has happened to the Pod with that number.
    Change(usize, Change),
    /// The other fd is readable.
    Other,
    /// Time is over.
    Timeout,
    /// All Pods have ended, and there is no other fd.
    Nothing,
}

struct Watched {
    view: PodView,
    client: Option<Client>,
    lives: u32,
}

/// Pods that are watched; each is known by its number.
pub(crate) struct Watches<'a> {
    engine: &'a Engine,
    pods: Vec<Watched>,
    changes: VecDeque<(usize, Change)>,
}

impl<'a> Watches<'a> {
    pub(crate) fn new(engine: &'a Engine) -> Self {
        Self { engine, pods: Vec::new(), changes: VecDeque::new() }
    }

    /// Begins to watch a Pod and returns its number. What is in `view` is no news.
    pub(crate) fn add(&mut self, view: PodView) -> usize {
        let index = self.pods.len();
        self.pods.push(Watched { view, client: None, lives: LIVES });
        self.connect(index);
        index
    }

    /// Returns the Pod as it was last seen.
    pub(crate) fn view(&self, index: usize) -> &PodView {
        &self.pods[index].view
    }

    /// Returns whether a Pod is known, watched or ended.
    pub(crate) fn knows(&self, uid: &str) -> bool {
        self.pods.iter().any(|pod| pod.view.pod.meta.uid == uid)
    }

    /// Waits for what happens next.
    pub(crate) fn next(&mut self, other: Option<BorrowedFd<'_>>, deadline: Option<Instant>) -> Next {
        loop {
            if let Some((index, change)) = self.changes.pop_front() {
                return Next::Change(index, change);
            }
            if let Some(index) = self.readable() {
                self.read(index);
                continue;
            }
            let clients: Vec<&Client> = self.pods.iter().filter_map(|pod| pod.client.as_ref()).collect();
            if clients.is_empty() && other.is_none() {
                return Next::Nothing;
            }
            let mut fds: Vec<PollFd<'_>> =
                clients.iter().map(|client| PollFd::new(client.as_fd(), PollFlags::POLLIN)).collect();
            fds.extend(other.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            let timeout = match deadline {
                None => PollTimeout::NONE,
                Some(deadline) => {
                    // Rounded up, so that a wait that ends has reached its deadline.
                    let left = deadline.saturating_duration_since(Instant::now()).as_millis() + 1;
                    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
                }
            };
            // An error shows itself at the read.
            let ready = poll(&mut fds, timeout).unwrap_or(1);
            let is_other = other.is_some() && fds.last().and_then(PollFd::any).unwrap_or(false);
            if is_other {
                return Next::Other;
            }
            if ready == 0 && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Next::Timeout;
            }
        }
    }

    /// Returns a Pod of which a message is waiting.
    fn readable(&self) -> Option<usize> {
        let ready = |client: &Client| client.has_buffered() || is_readable(client);
        self.pods.iter().position(|pod| pod.client.as_ref().is_some_and(ready))
    }

    fn read(&mut self, index: usize) {
        let pod = &mut self.pods[index];
        let Some(client) = &mut pod.client else { return };
        match client.next() {
            Ok(Some(Message::Status { status, deletion })) => {
                pod.lives = LIVES;
                let published = &mut pod.view.published;
                if *status != published.status || deletion != published.deletion {
                    published.status = *status;
                    published.deletion = deletion;
                    self.changes.push_back((index, Change::Status));
                }
            }
            Ok(Some(Message::Event { event })) => {
                if note_event(&mut pod.view.published.events, &event) {
                    self.changes.push_back((index, Change::Event(event)));
                }
            }
            // A supervisor that is gone by now is noticed at the next read.
            Ok(Some(Message::Ended)) => drop(client.drained()),
            Ok(Some(Message::Finished { removed: true })) => {
                pod.client = None;
                self.changes.push_back((index, Change::Ended { removed: true }));
            }
            Ok(Some(Message::Finished { removed: false }) | None) | Err(_) => {
                pod.client = None;
                self.look_again(index);
            }
            Ok(Some(Message::Ok | Message::Error { .. })) => {}
        }
    }

    /// Looks at a Pod whose supervisor has gone away.
    fn look_again(&mut self, index: usize) {
        let known = &self.pods[index].view;
        match self.engine.pod(&known.pod.meta.namespace, &known.pod.meta.name) {
            Ok(now) if now.pod.meta.uid == known.pod.meta.uid => {
                let published = &known.published;
                let news =
                    now.published.status != published.status || now.published.deletion != published.deletion;
                self.pods[index].view = now;
                if news {
                    self.changes.push_back((index, Change::Status));
                }
                self.connect(index);
            }
            // Removed, or another Pod of the same name.
            Ok(_) | Err(Error::NotFound { .. }) => {
                self.changes.push_back((index, Change::Ended { removed: true }));
            }
            Err(error) => {
                warning(&report::chain(&error));
                self.changes.push_back((index, Change::Ended { removed: false }));
            }
        }
    }

    /// Connects to the supervisor, and starts one where there should be one and is none.
    fn connect(&mut self, index: usize) {
        let pod = &mut self.pods[index];
        if pod.view.published.finished && !pod.view.supervised {
            self.changes.push_back((index, Change::Ended { removed: false }));
            return;
        }
        let connect = |engine: &Engine, view: &PodView| {
            if !view.supervised {
                engine.launch(&view.pod.meta.uid)?;
            }
            let mut client = engine.connect(&view.pod)?;
            client.watch()?;
            Ok(client)
        };
        match connect(self.engine, &pod.view) {
            Ok(client) => pod.client = Some(client),
            // It has ended, or was killed, since it was looked at.
            Err(Error::Unreachable { .. } | Error::Gone { .. }) if pod.lives > 0 => {
                pod.lives -= 1;
                self.look_again(index);
            }
            Err(error) => {
                warning(&report::chain(&error));
                self.changes.push_back((index, Change::Ended { removed: false }));
            }
        }
    }
}

/// Returns whether an event, or one more time of it, is news.
fn note_event(events: &mut Vec<EventRecord>, event: &EventRecord) -> bool {
    let same = |known: &EventRecord| {
        known.reason == event.reason && known.field_path == event.field_path && known.first == event.first
    };
    match events.iter_mut().find(|known| same(known) && known.message == event.message) {
        Some(known) if known.count >= event.count => false,
        Some(known) => {
            known.clone_from(event);
            true
        }
        None => {
            events.push(event.clone());
            true
        }
    }
}

pub(crate) fn is_readable(client: &Client) -> bool {
    let mut fds = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// Returns whether the phase is one that is never left.
pub(crate) fn has_ended(view: &PodView) -> bool {
    matches!(view.published.status.phase, Phase::Succeeded | Phase::Failed)
}
