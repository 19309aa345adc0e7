//! One command in a container as init knows it, and callers of whom it is not known yet what they want.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use podrun_cgroups::{Cgroup, CgroupEvents, EventsFd};
use podrun_plan::model::Owner;
use podrun_sandbox::protocol::{Channel, ExecOrder};

use crate::sys;

/// A parent that takes so many milliseconds to get to its command has been stopped, and is not waited for.
const MAX_TRIES: u32 = 100;

/// A connection without a first message.
pub(super) struct Caller {
    pub(super) serial: u64,
    pub(super) channel: Channel,
}

/// What a caller wants of its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing new.
    Wait,
    /// Whatever it leaves behind may live on.
    Leave,
    /// Everything must end.
    Kill,
}

/// A command and everything that it has started, as long as there is something.
pub(super) struct Command {
    pub(super) serial: u64,
    /// The container's.
    pub(super) container: u64,
    /// The process that makes the others; none once it is reaped.
    pub(super) helper: Option<i32>,
    /// Whose pid namespace the processes are in.
    pids: Owner,
    leaf: Cgroup,
    /// Open until nothing is left, unless the caller has said that it does not care.
    channel: Option<Channel>,
    /// Tells when the leaf is empty, once the caller does not wait any more.
    events: Option<EventsFd<CgroupEvents>>,
    /// What is in the leaf has been killed.
    killed: bool,
    /// How often that was tried.
    tries: u32,
}

impl Command {
    pub(super) fn new(caller: Caller, container: u64, helper: i32, pids: Owner, leaf: Cgroup) -> Self {
        let Caller { serial, channel } = caller;
        Self {
            serial,
            container,
            helper: Some(helper),
            pids,
            leaf,
            channel: Some(channel),
            events: None,
            killed: false,
            tries: 0,
        }
    }

    /// Reads what the caller says.
    pub(super) fn wish(&mut self) -> Wish {
        let Some(channel) = &mut self.channel else { return Wish::Wait };
        match channel.recv::<ExecOrder>() {
            Ok(Some((ExecOrder::Leave, _))) => Wish::Leave,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Wish::Wait,
            Ok(None) | Err(_) => Wish::Kill,
        }
    }

    /// Returns whether it is to be killed and has not been.
    pub(super) fn is_doomed(&self) -> bool {
        self.tries > 0 && !self.killed
    }

    /// Returns the caller's connection.
    pub(super) fn connection(&self) -> Option<BorrowedFd<'_>> {
        self.channel.as_ref().map(AsFd::as_fd)
    }

    /// Returns what tells of the end.
    pub(super) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// Lets go of the caller.
    pub(super) fn release(&mut self) {
        self.channel = None;
    }

    /// Kills everything, or begins to: while it returns false it is to be called again, a moment later or when another
    /// child has ended.
    ///
    /// The command's parent is spared, as it reaps what dies; then it ends by itself. `container` is where it goes
    /// meanwhile. Until the command is there, that would have it born in the wrong place, and the parent dies of a signal
    /// that it blocks from then on. Where orphans have another reaper there is no need for all that.
    pub(super) fn kill(&mut self, container: Option<&Cgroup>) -> bool {
        self.tries += 1;
        if self.pids == Owner::Container && self.tries < MAX_TRIES {
            if let Some(helper) = self.helper {
                sys::signal_child(helper, libc::SIGKILL);
                return false;
            }
            let processes = self.leaf.procs().unwrap_or_default();
            let parent =
                processes.iter().find_map(|pid| i32::try_from(*pid).ok().filter(|pid| sys::is_child(*pid)));
            match (parent, processes.len()) {
                (Some(parent), 1) => {
                    sys::signal_child(parent, libc::SIGTERM);
                    return false;
                }
                (Some(parent), _) => {
                    // It fails if the container hands controllers down to its children; then it dies with the rest.
                    if let (Some(container), Ok(parent)) = (container, u32::try_from(parent)) {
                        drop(container.add_process(parent));
                    }
                }
                (None, _) => {}
            }
        }
        // It fails if the leaf is gone, with all that was in it.
        drop(self.leaf.kill());
        self.killed = true;
        true
    }

    /// Removes the leaf if nothing is in it; returns whether it is gone.
    pub(super) fn is_over(&self) -> bool {
        self.leaf.remove_if_empty().unwrap_or(false)
    }

    /// Starts to watch for the end of everything; returns the descriptor to watch for `EPOLLPRI`, the first time.
    pub(super) fn await_end(&mut self) -> Option<BorrowedFd<'_>> {
        if self.events.is_some() {
            return None;
        }
        self.events = self.leaf.events_fd().ok();
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// Looks again after something has changed in the leaf; returns whether it is gone.
    pub(super) fn has_ended(&self) -> bool {
        let Some(events) = &self.events else { return false };
        // Makes it wait for the next change. An error means that the leaf is gone, which is found out anyway.
        drop(events.read());
        // What was killed may have made cgroups of its own. Not a moment is waited here.
        if self.killed { self.leaf.remove_tree(Instant::now()).is_ok() } else { self.is_over() }
    }
}
