//! Files that report events, as fds to poll.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cgroup::Cgroup;
use crate::error::{Error, ParseError, Result};
use crate::memory::MemoryEvents;
use crate::pids::PidsEvents;
use crate::value::flat_keyed;

/// The content of `cgroup.events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CgroupEvents {
    /// Whether the cgroup or a descendant has live processes. Unreaped ones (zombies) do not count.
    pub populated: bool,
    /// Whether the cgroup is frozen, all its descendants included.
    pub frozen: bool,
}

impl FromStr for CgroupEvents {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut events = Self::default();
        let mut has_populated = false;
        flat_keyed(text, |key, value| {
            match key {
                "populated" => (events.populated, has_populated) = (value != 0, true),
                "frozen" => events.frozen = value != 0,
                _ => {}
            }
            Ok(())
        })?;
        // An empty answer must never read as "nobody is in there".
        if has_populated { Ok(events) } else { Err(ParseError::new("a line \"populated N\"", text)) }
    }
}

/// An open events file: `cgroup.events`, `memory.events` and their like.
///
/// The kernel makes the fd ready for `POLLPRI` when the content has changed since it was last [read](Self::read), and
/// once before the first read. It can be given to any event loop that knows priority events (`EPOLLPRI`, tokio's
/// `Interest::PRIORITY`). Read first and wait after, and no event is lost.
#[derive(Debug)]
pub struct EventsFd<T> {
    file: File,
    path: PathBuf,
    content: PhantomData<fn() -> T>,
}

impl<T> AsFd for EventsFd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl<T: FromStr<Err = ParseError>> EventsFd<T> {
    pub(crate) fn open(cgroup: &Cgroup, name: &str) -> Result<Self> {
        let file = cgroup.open_file(name, OFlag::O_RDONLY).map_err(|source| {
            let error = |path, source| Error::Read { path, source };
            cgroup.explain(name, source, error)
        })?;
        Ok(Self { file, path: cgroup.path().join(name), content: PhantomData })
    }

    /// Returns the path of the file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the content, and makes the fd wait for the next change.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] with `ENODEV` once the cgroup was removed ([`Error::is_gone`]); [`Error::Parse`].
    pub fn read(&self) -> Result<T> {
        let failed = |source| Error::Read { path: self.path.clone(), source };
        let mut text = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            match self.file.read_at(&mut chunk, text.len() as u64) {
                Ok(0) => break,
                Ok(read) => text.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        String::from_utf8_lossy(&text)
            .parse()
            .map_err(|source| Error::Parse { path: self.path.clone(), source })
    }

    /// Waits until the content has changed; returns whether it did before `deadline`.
    ///
    /// # Errors
    ///
    /// [`Error::Poll`].
    pub fn wait(&self, deadline: Instant) -> Result<bool> {
        wait_for_priority(self.file.as_fd(), deadline)
            .map(|flags| !flags.is_empty())
            .map_err(|source| Error::Poll { path: self.path.clone(), source })
    }

    /// Waits until `reached` says yes to the content, and returns that content; `state` names it in the error.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] at the deadline; as [`EventsFd::read`] and [`EventsFd::wait`].
    pub fn wait_until(
        &self,
        state: &'static str,
        deadline: Instant,
        mut reached: impl FnMut(&T) -> bool,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            let content = self.read()?;
            if reached(&content) {
                return Ok(content);
            }
            // The state may have been reached between the last read and the deadline, so the deadline is looked at
            // after a read and never before one.
            if Instant::now() >= deadline {
                return Err(Error::TimedOut { state, path: self.path.clone(), waited: start.elapsed() });
            }
            self.wait(deadline)?;
        }
    }
}

impl Cgroup {
    /// Returns the content of `cgroup.events`.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]: the root cgroup has no such file.
    pub fn events(&self) -> Result<CgroupEvents> {
        self.read_as("cgroup.events")
    }

    /// Returns an fd that becomes ready when the cgroup becomes populated, empty, frozen or thawed.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::events`].
    pub fn events_fd(&self) -> Result<EventsFd<CgroupEvents>> {
        EventsFd::open(self, "cgroup.events")
    }

    /// Returns an fd that becomes ready on events of memory: `high`, `max`, `oom`, `oom_kill`.
    ///
    /// # Errors
    ///
    /// [`Error::ControllerMissing`] without the memory controller, [`Error::Read`].
    pub fn memory_events_fd(&self) -> Result<EventsFd<MemoryEvents>> {
        EventsFd::open(self, "memory.events")
    }

    /// Returns an fd that becomes ready when a fork fails because of `pids.max`.
    ///
    /// # Errors
    ///
    /// [`Error::ControllerMissing`] without the pids controller, [`Error::Read`].
    pub fn pids_events_fd(&self) -> Result<EventsFd<PidsEvents>> {
        EventsFd::open(self, "pids.events")
    }
}

/// Waits for `POLLPRI` on `fd`; returns nothing if the deadline came first.
pub(crate) fn wait_for_priority(fd: BorrowedFd<'_>, deadline: Instant) -> io::Result<PollFlags> {
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(fd, PollFlags::POLLPRI)];
        match poll(&mut fds, poll_timeout(remaining)) {
            Ok(0) if Instant::now() < deadline => {}
            Ok(_) => return Ok(fds[0].revents().unwrap_or(PollFlags::empty())),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Rounds up to the next millisecond, so that a wait never spins through the last fraction.
fn poll_timeout(remaining: Duration) -> PollTimeout {
    let millis = remaining.as_micros().div_ceil(1000);
    PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::StandIn;

    #[test]
    fn events_parse_and_ignore_newer_keys() {
        let events: CgroupEvents = "populated 1\nfrozen 0\nsomething 7\n".parse().unwrap();
        assert_eq!(events, CgroupEvents { populated: true, frozen: false });
    }

    #[test]
    fn an_empty_file_does_not_mean_empty_cgroup() {
        assert!("".parse::<CgroupEvents>().is_err());
        assert!("frozen 0\n".parse::<CgroupEvents>().is_err());
    }

    #[test]
    fn reached_states_need_no_wait() {
        let stand_in = StandIn::new(&[("cgroup.events", "populated 0\nfrozen 0\n")]);
        let fd = stand_in.cgroup.events_fd().unwrap();
        let past = Instant::now();
        assert!(fd.wait_until("populated 0", past, |events| !events.populated).is_ok());
    }

    #[test]
    fn the_deadline_ends_the_wait_and_names_the_state() {
        let stand_in = StandIn::new(&[("cgroup.events", "populated 1\nfrozen 0\n")]);
        let fd = stand_in.cgroup.events_fd().unwrap();
        let deadline = Instant::now() + Duration::from_millis(5);
        let error = fd.wait_until("populated 0", deadline, |events| !events.populated).unwrap_err();
        assert!(matches!(error, Error::TimedOut { state: "populated 0", .. }), "{error}");
        assert!(Instant::now() >= deadline);
    }

    #[test]
    fn missing_files_are_told_at_open() {
        let stand_in = StandIn::new(&[]);
        assert!(stand_in.cgroup.events_fd().unwrap_err().is_gone());
        assert!(stand_in.cgroup.events().unwrap_err().is_gone());
    }

    #[test]
    fn timeouts_round_up_and_are_capped() {
        assert_eq!(poll_timeout(Duration::from_micros(1)).as_millis(), Some(1));
        assert_eq!(poll_timeout(Duration::ZERO).as_millis(), Some(0));
        assert_eq!(poll_timeout(Duration::MAX).as_millis(), Some(i32::MAX as u32));
    }
}
