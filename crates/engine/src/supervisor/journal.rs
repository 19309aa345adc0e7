//! The journal: every fact that the machine was told and what it decided, for a replay.
//!
//! ```text
//! <data>/pods/<uid>/journal.jsonl        what happened last
//! <data>/pods/<uid>/journal.old.jsonl    what happened before that
//! ```
//!
//! It is bounded: a file that is full makes place for the next one, which begins with the machine's state, and there are
//! never more than two.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use podrun_lifecycle::{Action, Input, Machine, Now, journal};
use podrun_spec::WirePod;

use crate::error::{Error, Result};
use crate::paths::{JOURNAL, OLD_JOURNAL};

/// A file is full with so many bytes. A fact takes a few hundred.
const FULL: u64 = 256 * 1024;

/// The journal of one Pod.
pub(super) struct Journal {
    dir: PathBuf,
    file: Option<File>,
    size: u64,
    /// Lines that are not written yet.
    lines: String,
}

impl Journal {
    /// Returns the journal in a Pod's directory.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), file: None, size: 0, lines: String::new() }
    }

    /// Notes that a supervisor goes on from a state.
    pub(super) fn resumed(&mut self, machine: &Machine) {
        self.lines.push_str(&journal::resumed(machine));
    }

    /// Notes a step.
    pub(super) fn step(&mut self, now: Now, input: &Input, actions: &[Action]) {
        self.lines.push_str(&journal::step(now, input, Some(actions)));
    }

    /// Writes what was noted; to be called before the state that results from it is written.
    ///
    /// # Errors
    /// Any errno of the files. What could not be written is lost: a Pod does not fail for want of its journal.
    pub(super) fn write(&mut self, pod: &WirePod, machine: &Machine) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut lines = std::mem::take(&mut self.lines);
        let path = self.dir.join(JOURNAL);
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = open(&path)?;
                self.size = whole_lines(&file).map_err(|source| Error::io("cut", &path, source))?;
                file
            }
        };
        if self.size == 0 {
            lines.insert_str(0, &journal::header(pod));
        }
        file.write_all(lines.as_bytes()).map_err(|source| Error::io("write", &path, source))?;
        self.size += lines.len() as u64;
        if self.size < FULL {
            self.file = Some(file);
            return Ok(());
        }
        drop(file);
        let old = self.dir.join(OLD_JOURNAL);
        fs::rename(&path, &old).map_err(|source| Error::io("rename to", &old, source))?;
        self.resumed(machine);
        Ok(())
    }
}

/// Removes a line that somebody could not complete. Returns the size of what is left.
fn whole_lines(mut file: &File) -> std::io::Result<u64> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1) as u64;
    if whole < text.len() as u64 {
        file.set_len(whole)?;
    }
    Ok(whole)
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options.open(path).map_err(|source| Error::io("open", path, source))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use podrun_spec::time::Timestamp;

    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_not_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JOURNAL);
        for (text, whole) in [("", ""), ("a", ""), ("a\nb", "a\n"), ("a\nb\n", "a\nb\n")] {
            fs::write(&path, text).unwrap();
            assert_eq!(whole_lines(&open(&path).unwrap()).unwrap(), whole.len() as u64);
            assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        }
    }

    #[test]
    fn the_journal_is_bounded_and_can_be_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let text =
            "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}";
        let parsed = podrun_spec::parse("p.yaml", text).unwrap().pods.remove(0);
        let wire = parsed.wire.with_metadata("u-1", Timestamp(0), 1, None);
        let (pod, _) = podrun_spec::from_json(wire.to_json()).unwrap();
        let mut machine = Machine::new(&pod);
        let mut journal = Journal::new(dir.path());
        for second in 0..6000 {
            let now = Now { wall: Timestamp(0), boot: Duration::from_secs(second) };
            let input = if second == 0 { Input::Created } else { Input::Tick };
            let actions = machine.step(now, input.clone());
            journal.step(now, &input, &actions);
            journal.write(&wire, &machine).unwrap();
        }
        let mut steps = 0;
        for name in [JOURNAL, OLD_JOURNAL] {
            let text = fs::read(dir.path().join(name)).unwrap();
            assert!(text.len() < 300 * 1024, "{name}: {}", text.len());
            for step in journal::Replay::new(text.as_slice()).unwrap() {
                let step = step.unwrap();
                assert!(step.divergence.is_none() || step.line == 2, "{name}:{}", step.line);
                steps += 1;
            }
        }
        assert!((2000..6000).contains(&steps), "{steps}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
