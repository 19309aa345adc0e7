//! How a container tells the bench that it runs: it writes to a FIFO in a volume.
//!
//! The observation comes from outside and is the same for every program that is compared: no status is believed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// What is silent for so long has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// Returns what a container's shell runs: it says a word, does some work (ended by a semicolon, or nothing), then waits
/// for ever on a FIFO without a writer. Nothing is executed for that, so that it does not disturb the next measurement.
pub(crate) fn script(word: &str, volume: &str, work: &str) -> String {
    format!("echo {word} >{volume}/up; {work} read x <{volume}/down")
}

/// The reading end of the FIFO `up`.
#[derive(Debug)]
pub(crate) struct Signals {
    up: File,
}

impl Signals {
    /// Makes the FIFOs in the directory that containers see as `/v`.
    pub(crate) fn new(volume: &Path) -> io::Result<Self> {
        let mode = Mode::from_bits_truncate(0o666);
        mkfifo(&volume.join("up"), mode)?;
        mkfifo(&volume.join("down"), mode)?;
        // Open for writing too: so there is always a reader and a writer, and no end of file.
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let up = OpenOptions::new().read(true).write(true).custom_flags(flags).open(volume.join("up"))?;
        Ok(Self { up })
    }

    /// Waits for so many lines and returns when the last one was seen.
    pub(crate) fn wait(&mut self, lines: usize) -> io::Result<Instant> {
        let deadline = Instant::now() + LIMIT;
        let mut seen = 0;
        let mut buffer = [0; 256];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            if poll(&mut [PollFd::new(self.up.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
                let text = format!("{seen} of {lines} containers spoke within {LIMIT:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            let now = Instant::now();
            let count = self.up.read(&mut buffer)?;
            seen += buffer[..count].iter().filter(|byte| **byte == b'\n').count();
            if seen >= lines {
                return Ok(now);
            }
        }
    }
}
