//! A container's last words.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use podrun_spec::model::TerminationMessagePolicy;

use crate::log::last_bytes;
use crate::prepare::TERMINATION_LOG;

/// Bytes that are taken from the end of the file, as by the kubelet.
const MAX_MESSAGE: u64 = 4096;
/// Entries and bytes that are taken from the end of the log.
const MAX_LOG_LINES: usize = 80;
const MAX_LOG_BYTES: usize = 2048;
/// How much of the log's end is read for that: either holds 80 entries, or entries with more than 2048 bytes.
const LOG_WINDOW: u64 = 64 * 1024;

/// Returns the message of a container that has ended with `exit_code`; empty if there is none.
///
/// It is the end of the termination file of the attempt in `dir`, or with `FallbackToLogsOnError`, if that is empty and
/// the container failed, the end of its log. The container may have put anything in place of the file's content, so
/// only a regular file counts and only its end is read.
///
/// # Errors
///
/// Those of reading, other than that the file is missing.
pub fn read_termination_message(
    dir: &Path,
    policy: TerminationMessagePolicy,
    exit_code: i32,
    log: &Path,
) -> io::Result<String> {
    let message = read_end(&dir.join(TERMINATION_LOG), MAX_MESSAGE)?;
    let fall_back = policy == TerminationMessagePolicy::FallbackToLogsOnError && exit_code != 0;
    if !message.is_empty() || !fall_back {
        return Ok(text(&message));
    }
    Ok(text(&last_bytes(&read_end(log, LOG_WINDOW)?, MAX_LOG_LINES, MAX_LOG_BYTES)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads the last `max` bytes of a regular file; nothing of anything else.
fn read_end(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file: File = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) => {
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::ELOOP | libc::ENXIO) => Ok(Vec::new()),
                _ => Err(error),
            };
        }
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Vec::new());
    }
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(max)))?;
    let mut end = Vec::new();
    file.take(max).read_to_end(&mut end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::sys::stat::Mode;
    use podrun_testkit::TempRoot;

    use super::*;

    use TerminationMessagePolicy::{FallbackToLogsOnError, File as OnlyFile};

    #[test]
    fn the_file_wins_and_the_log_helps_only_on_failure() {
        let root = TempRoot::new();
        let (dir, log) = (root.path(), root.path().join("0.log"));
        fs::write(&log, "T stdout F before\nT stderr P DONE\n").expect("write");
        let read = |policy, code| read_termination_message(dir, policy, code, &log).expect("readable");
        assert_eq!(read(OnlyFile, 1), "", "no file");
        assert_eq!(read(FallbackToLogsOnError, 1), "before\nDONE");
        assert_eq!(read(FallbackToLogsOnError, 0), "");
        fs::write(dir.join(TERMINATION_LOG), "x".repeat(5000) + "end").expect("write");
        for policy in [OnlyFile, FallbackToLogsOnError] {
            let message = read(policy, 1);
            assert_eq!((message.len(), message.ends_with("xend")), (4096, true));
        }
        root.close();
    }

    #[test]
    fn nothing_but_a_regular_file_is_read() {
        let root = TempRoot::new();
        let (path, log) = (root.path().join(TERMINATION_LOG), root.path().join("0.log"));
        let read = || read_termination_message(root.path(), OnlyFile, 1, &log).expect("no error");
        std::os::unix::fs::symlink("/etc/passwd", &path).expect("symlink");
        assert_eq!(read(), "");
        fs::remove_file(&path).expect("unlink");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("mkfifo");
        assert_eq!(read(), "");
        fs::remove_file(&path).expect("unlink");
        fs::create_dir(&path).expect("mkdir");
        assert_eq!(read(), "");
        root.close();
    }
}
