//! How a start went, told through a pipe that the program's execution closes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use podrun_sandbox::protocol::{Failure, Identity, Stage};
use serde::{Deserialize, Serialize};

/// Most that is read: a process that writes more is not ours.
const MAX: usize = 1024 * 1024;

/// What a process tells about its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// All is done but the execution; if no failure follows, that worked too.
    Ready {
        /// Whom it runs as.
        user: Identity,
        /// That user's home directory, if the image names one.
        home: Option<String>,
        /// What could not be done, though it goes on.
        warnings: Vec<String>,
    },
    /// It could not go on.
    Failed(Failure),
}

impl Report {
    /// What it means if a process has ended without a word.
    pub(crate) fn silence() -> Self {
        let message = "the process ended before the program was executed".to_owned();
        Self::Failed(Failure { stage: Stage::Process, errno: 0, message })
    }
}

/// Writes a report. One to a caller that is gone helps nobody, so errors do not matter.
pub(super) fn write(pipe: &mut File, report: &Report) {
    let mut line = serde_json::to_vec(report).unwrap_or_default();
    line.push(b'\n');
    drop(pipe.write_all(&line));
}

/// Collects the reports of one process.
#[derive(Debug)]
pub struct ReportReader {
    pipe: File,
    text: Vec<u8>,
}

impl ReportReader {
    /// Reads from the pipe of a [`Spawned`](super::Spawned).
    pub fn new(pipe: OwnedFd) -> Self {
        Self { pipe: pipe.into(), text: Vec::new() }
    }

    /// Reads what is there, and returns the outcome, though the pipe may be open: the process has ended, but somebody may
    /// have taken its end of the pipe.
    pub fn conclude(&mut self) -> Report {
        self.read().unwrap_or_else(|| outcome(&self.text))
    }

    /// Reads what is there, and returns the outcome if the pipe has been closed; none if it is still open.
    pub fn read(&mut self) -> Option<Report> {
        let mut chunk = [0; 4096];
        loop {
            match self.pipe.read(&mut chunk) {
                Ok(count) if count > 0 && self.text.len() < MAX => {
                    self.text.extend_from_slice(&chunk[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return Some(outcome(&self.text)),
            }
        }
    }
}

impl AsFd for ReportReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// A failure to execute comes after `Ready`. Nothing else does: whoever could take the process over by then must not say
/// whom it runs as.
fn outcome(text: &[u8]) -> Report {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut reports = lines.map(serde_json::from_slice).map_while(Result::ok);
    match reports.next() {
        Some(Report::Failed(failure)) => Report::Failed(failure),
        Some(ready) => reports.find(|report| matches!(report, Report::Failed(_))).unwrap_or(ready),
        None => Report::silence(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_or_else_the_first_report_and_silence_is_a_failure() {
        let ready = Report::Ready { user: Identity::default(), home: None, warnings: vec!["w".to_owned()] };
        let failed = Report::Failed(Failure {
            stage: Stage::Exec,
            errno: libc::ENOENT,
            message: "no\nsuch".to_owned(),
        });
        let text = |reports: &[&Report]| {
            let lines = reports.iter().map(|report| serde_json::to_string(report).expect("JSON") + "\n");
            lines.collect::<String>().into_bytes()
        };
        assert_eq!(outcome(&text(&[&ready])), ready);
        assert_eq!(outcome(&text(&[&ready, &failed])), failed);
        let other = Report::Ready { user: Identity::default(), home: None, warnings: Vec::new() };
        assert_eq!(outcome(&text(&[&ready, &other])), ready, "the second is not believed");
        assert_eq!(outcome(&text(&[&ready, &other, &failed])), failed);
        for broken in [&b""[..], b"{", b"\n\n", b"null\n"] {
            assert!(matches!(outcome(broken), Report::Failed(_)), "{broken:?}");
        }
    }

    #[test]
    fn an_open_pipe_has_no_outcome_yet() {
        let (read, write_end) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).expect("a pipe");
        let (mut reader, mut pipe) = (ReportReader::new(read), File::from(write_end));
        assert_eq!(reader.read(), None);
        let ready = Report::Ready { user: Identity::default(), home: None, warnings: Vec::new() };
        write(&mut pipe, &ready);
        assert_eq!(reader.read(), None);
        assert_eq!(reader.conclude(), ready);
        drop(pipe);
        assert_eq!(reader.read(), Some(ready));
    }
}
