//! Reading container logs: CRI lines from a file, and files that grow.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use podrun_container::log;
use podrun_spec::time::Timestamp;

/// One record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When it was written.
    pub(crate) time: Timestamp,
    /// The time as it stands in the log, with nine digits.
    pub(crate) time_text: String,
    /// Whether it ends a line.
    pub(crate) ends_line: bool,
    /// What the process wrote, without the newline.
    pub(crate) content: Vec<u8>,
}

/// Reads one line of a CRI log: `<time> <stream> <tags> <content>`.
fn parse_entry(line: &[u8]) -> Option<Entry> {
    let entry = log::parse_entry(line)?;
    let time_text = std::str::from_utf8(entry.time).ok()?;
    let time: jiff::Timestamp = time_text.parse().ok()?;
    Some(Entry {
        time: Timestamp(i64::try_from(time.as_nanosecond()).ok()?),
        time_text: time_text.to_owned(),
        ends_line: !entry.partial,
        content: entry.content.to_vec(),
    })
}

/// A log file and how far it was read.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: File,
    unfinished: Vec<u8>,
}

impl LogFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)?;
        Ok(Self { file, unfinished: Vec::new() })
    }

    /// Goes to where the last `count` records begin.
    pub(crate) fn skip_to_tail(&mut self, count: u64) -> io::Result<()> {
        const CHUNK: u64 = 64 * 1024;
        let end = self.file.seek(SeekFrom::End(0))?;
        let mut position = end;
        // The newline that ends the last record does not begin another one.
        let mut wanted = count.saturating_add(1);
        let mut chunk = Vec::new();
        while position > 0 {
            let start = position.saturating_sub(CHUNK);
            chunk.resize(usize::try_from(position - start).unwrap_or(0), 0);
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(&mut chunk)?;
            for (index, _) in chunk.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'\n') {
                wanted -= 1;
                if wanted == 0 {
                    self.file.seek(SeekFrom::Start(start + index as u64 + 1))?;
                    return Ok(());
                }
            }
            position = start;
        }
        self.file.seek(SeekFrom::Start(0))?;
        Ok(())
    }

    /// Returns the records that were added since the last call. Lines that are no records are left out.
    pub(crate) fn read_new(&mut self) -> io::Result<Vec<Entry>> {
        self.file.read_to_end(&mut self.unfinished)?;
        let whole = self.unfinished.iter().rposition(|&b| b == b'\n').map_or(0, |n| n + 1);
        let rest = self.unfinished.split_off(whole);
        let lines = std::mem::replace(&mut self.unfinished, rest);
        Ok(lines.split(|&b| b == b'\n').filter_map(parse_entry).collect())
    }
}

/// Wakes when a file in one of its directories is made or written.
#[derive(Debug)]
pub(crate) struct Changes {
    inotify: Inotify,
    watched: Vec<PathBuf>,
}

impl Changes {
    pub(crate) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Self { inotify, watched: Vec::new() })
    }

    /// Watches a directory; one that is not there yet may be tried again later.
    pub(crate) fn watch(&mut self, dir: &Path) {
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
        if !self.watched.iter().any(|w| w == dir) && self.inotify.add_watch(dir, flags).is_ok() {
            self.watched.push(dir.to_owned());
        }
    }

    /// Takes note of what has happened. What it was does not matter: files are read from where they were left.
    pub(crate) fn clear(&self) {
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// All logs of one container, from one attempt on.
#[derive(Debug)]
pub(crate) struct ContainerLog {
    dir: PathBuf,
    attempt: u32,
    file: Option<LogFile>,
}

impl ContainerLog {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, attempt: 0, file: None }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the records that were added since the last call, those of later attempts included.
    pub(crate) fn read_new(&mut self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        loop {
            if self.file.is_none() {
                match LogFile::open(&self.path(self.attempt)) {
                    Ok(file) => self.file = Some(file),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(entries),
                    Err(error) => return Err(error),
                }
            }
            // Looked for before reading: the log of an attempt is complete once there is a later one.
            let later = self.path(self.attempt + 1).exists();
            if let Some(file) = &mut self.file {
                entries.extend(file.read_new()?);
            }
            if !later {
                return Ok(entries);
            }
            self.attempt += 1;
            self.file = None;
        }
    }

    fn path(&self, attempt: u32) -> PathBuf {
        self.dir.join(format!("{attempt}.log"))
    }
}

/// Puts records together to lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Returns the line that a record completes.
    pub(crate) fn add(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        self.pending.extend_from_slice(&entry.content);
        entry.ends_line.then(|| std::mem::take(&mut self.pending))
    }

    /// Returns the line that was begun and will not be completed.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        (!self.pending.is_empty()).then(|| std::mem::take(&mut self.pending))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &[u8] = b"2026-11-23T16:15:00.123456789Z stdout F hello  world";

    #[test]
    fn a_record_has_a_time_a_stream_tags_and_content() {
        let entry = parse_entry(FULL).unwrap();
        assert_eq!((entry.content.as_slice(), entry.ends_line), (&b"hello  world"[..], true));
        assert_eq!(entry.time.0 % 1_000_000_000, 123_456_789);
        assert!(!parse_entry(b"2026-11-23T16:15:00Z stderr P:x y").unwrap().ends_line);
        assert_eq!(parse_entry(b"2026-11-23T16:15:00Z stderr F ").unwrap().content, b"");
        for wrong in
            [&b""[..], b"2026-11-23T16:15:00Z stderr F", b"x stdout F y", b"2026-11-23T16:15:00Z other F y"]
        {
            assert_eq!(parse_entry(wrong), None);
        }
    }

    #[test]
    fn the_tail_counts_records() {
        let dir = std::env::temp_dir().join(format!("podrun-tail-{}", std::process::id()));
        let text: String = (0..5000).map(|n| format!("2026-11-23T16:15:00Z stdout F line {n}\n")).collect();
        std::fs::write(&dir, text).unwrap();
        for (count, first) in
            [(0, None), (1, Some("line 4999")), (4000, Some("line 1000")), (9999, Some("line 0"))]
        {
            let mut log = LogFile::open(&dir).unwrap();
            log.skip_to_tail(count).unwrap();
            let entries = log.read_new().unwrap();
            assert_eq!(
                entries.first().map(|e| String::from_utf8_lossy(&e.content).into_owned()).as_deref(),
                first
            );
        }
        std::fs::remove_file(&dir).unwrap();
    }

    #[test]
    fn parts_are_put_together() {
        let part = |content: &str, ends_line| Entry {
            time: Timestamp(0),
            time_text: String::new(),
            ends_line,
            content: content.into(),
        };
        let mut lines = Lines::default();
        assert_eq!(lines.add(&part("a", false)), None);
        assert_eq!(lines.add(&part("b", true)), Some(b"ab".to_vec()));
        assert_eq!(lines.add(&part("c", false)), None);
        assert_eq!(lines.finish(), Some(b"c".to_vec()));
        assert_eq!(lines.finish(), None);
    }
}
