//! Writing entries to a log that may run full.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use podrun_sandbox::protocol::LogLoss;

/// A container's log, open for appending. When it cannot be written the container goes on, and what is lost is counted.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    lost: LogLoss,
    errno: i32,
    torn: bool,
}

impl LogFile {
    /// Takes over a file that was opened with `O_APPEND`.
    pub fn new(file: OwnedFd) -> Self {
        Self { file: file.into(), lost: LogLoss::default(), errno: 0, torn: false }
    }

    /// Returns what could not be written so far.
    pub const fn lost(&self) -> LogLoss {
        self.lost
    }

    /// Appends a batch of whole entries in one write. Returns the error number if that has changed: not 0 when writing
    /// begins to fail, 0 when it works again.
    pub fn append(&mut self, batch: &mut Vec<u8>, entries: u64) -> Option<i32> {
        if batch.is_empty() {
            return None;
        }
        if self.torn {
            // Ends the entry that was cut off, so that it does not swallow the next one.
            batch.insert(0, b'\n');
        }
        let (written, errno) = self.write(batch);
        if written > 0 {
            self.torn = batch.get(written - 1) != Some(&b'\n');
        }
        if errno != 0 {
            let rest = &batch[written..];
            self.lost.bytes += rest.len() as u64;
            self.lost.entries += if written == 0 {
                entries
            } else {
                rest.iter().filter(|byte| **byte == b'\n').count() as u64
            };
        }
        let changed = self.errno != errno;
        self.errno = errno;
        changed.then_some(errno)
    }

    /// Returns how much was written, and why not all.
    fn write(&mut self, batch: &[u8]) -> (usize, i32) {
        let mut written = 0;
        while written < batch.len() {
            match self.file.write(&batch[written..]) {
                Ok(0) => return (written, libc::ENOSPC),
                Ok(count) => written += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return (written, error.raw_os_error().unwrap_or(libc::EIO)),
            }
        }
        (written, 0)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use podrun_testkit::TempRoot;

    use super::*;

    #[test]
    fn a_full_disk_is_reported_once_and_counted() {
        let full = OpenOptions::new().append(true).open("/dev/full").expect("the full device");
        let mut log = LogFile::new(full.into());
        assert_eq!(log.append(&mut b"one\ntwo\n".to_vec(), 2), Some(libc::ENOSPC));
        assert_eq!(log.append(&mut b"three\n".to_vec(), 1), None);
        assert_eq!(log.append(&mut Vec::new(), 0), None);
        assert_eq!(log.lost(), LogLoss { entries: 3, bytes: 14 });
    }

    #[test]
    fn an_entry_that_was_cut_off_is_ended_first() {
        let root = TempRoot::new();
        let path = root.path().join("log");
        let file = OpenOptions::new().append(true).create(true).open(&path).expect("a file");
        let mut log = LogFile::new(file.into());
        log.append(&mut b"whole\nhal".to_vec(), 2);
        log.append(&mut b"next\n".to_vec(), 1);
        log.append(&mut b"last\n".to_vec(), 1);
        assert_eq!(std::fs::read(&path).expect("the log"), b"whole\nhal\nnext\nlast\n");
        root.close();
    }
}
