//! Everything that a machine was told, one JSON value a line, and its replay.
//!
//! ```text
//! {"pod":{"version":1,"pod":{...}}}                                    the first line: the Pod as v1 JSON
//! {"step":{"now":{"wall":...,"boot":...},"input":"Created","actions":[...]}}
//! {"resumed":{"state":{...}}}                                          a supervisor took over from this state
//! ```
//!
//! Whoever drives the machine writes [`header`] once, [`step`] for each [`Machine::step`], in that order and not later than the
//! state that results from it, and [`resumed`] after [`Machine::restore`]. `actions` are what the machine answered; with them
//! a replay can tell whether it still would. They may be left out. The last line may be cut off: that is where somebody was
//! killed.
//!
//! ```
//! use podrun_lifecycle::{Input, Machine, Now, journal};
//! # use std::time::Duration;
//! # let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: 'nginx:1'}]}}";
//! # let parsed = podrun_spec::parse("p.yaml", text).unwrap().pods.remove(0);
//! # let zero = podrun_spec::time::Timestamp(0);
//! let wire = parsed.wire.with_metadata("the-uid", zero, 1, None);
//! let (pod, _) = podrun_spec::from_json(wire.to_json()).unwrap();
//! let mut written = journal::header(&wire);
//! let mut machine = Machine::new(&pod);
//! let now = Now { wall: podrun_spec::time::Timestamp(0), boot: Duration::ZERO };
//! let actions = machine.step(now, Input::Created);
//! written += &journal::step(now, &Input::Created, Some(&actions));
//!
//! let replay = journal::Replay::new(written.as_bytes())?;
//! for step in replay {
//!     let step = step?;
//!     assert!(step.divergence.is_none());
//!     step.lines.iter().for_each(|line| println!("{line}"));
//! }
//! # Ok::<(), journal::JournalError>(())
//! ```

use std::io::BufRead;
use std::time::Duration;

use podrun_spec::model::Pod;
use podrun_spec::status::PodStatus;
use podrun_spec::{StoredPodError, WirePod, from_json};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::Action;
use crate::input::{Input, Now};
use crate::machine::Machine;
use crate::state::State;
use crate::timeline::{Line, lines};

/// The version of the format.
const VERSION: u32 = 1;

/// A line of a journal.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Entry {
    Pod { version: u32, pod: Value },
    Step { now: Now, input: Input, actions: Option<Vec<Action>> },
    Resumed { state: Box<State> },
}

/// As [`Entry`], to be written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum EntryRef<'a> {
    Pod {
        version: u32,
        pod: &'a Value,
    },
    Step {
        now: Now,
        input: &'a Input,
        #[serde(skip_serializing_if = "Option::is_none")]
        actions: Option<&'a [Action]>,
    },
    Resumed {
        state: &'a State,
    },
}

impl EntryRef<'_> {
    fn line(&self) -> String {
        // None of the types has a map whose keys are not text, which is all that could fail.
        serde_json::to_string(self).map_or_else(|_| String::new(), |text| text + "\n")
    }
}

/// Returns the first line. The Pod has its UID and generation.
pub fn header(pod: &WirePod) -> String {
    EntryRef::Pod { version: VERSION, pod: &pod.to_json() }.line()
}

/// Returns the line of a step.
pub fn step(now: Now, input: &Input, actions: Option<&[Action]>) -> String {
    EntryRef::Step { now, input, actions }.line()
}

/// Returns the line of a supervisor that took over: the state of the machine after [`Machine::restore`].
pub fn resumed(machine: &Machine) -> String {
    EntryRef::Resumed { state: machine.state() }.line()
}

/// Why a journal cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The reader failed.
    #[error("read line {line} of the journal")]
    Read {
        /// Counted from 1.
        line: usize,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not what a journal has there.
    #[error("decode line {line} of the journal")]
    Decode {
        /// Counted from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// The first line does not name a Pod, or a later one does.
    #[error("line {line} of the journal: {problem}")]
    Misplaced {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The journal was written by another version.
    #[error("read a journal of version {version}: this is version {VERSION}")]
    Version {
        /// Its version.
        version: u32,
    },
    /// The Pod cannot be read.
    #[error("read the Pod of the journal")]
    Pod {
        /// Why.
        #[from]
        source: StoredPodError,
    },
}

/// A step that was replayed.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// Line of the journal, counted from 1.
    pub line: usize,
    /// The time of the step.
    pub now: Now,
    /// What the machine was told; none where a supervisor took over.
    pub input: Option<Input>,
    /// What it decides.
    pub actions: Vec<Action>,
    /// The status that results.
    pub status: PodStatus,
    /// The step in words.
    pub lines: Vec<Line>,
    /// Where the journal says otherwise.
    pub divergence: Option<Divergence>,
}

/// A difference between a journal and its replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// The machine decided otherwise then. The replay goes on with what it decides now.
    Actions {
        /// What the journal says.
        journal: Vec<Action>,
    },
    /// A supervisor took over from another state: the one before was killed before it had written down its last steps. The
    /// replay goes on with the state of the journal.
    State,
}

/// The replay of a journal: an iterator over its steps.
#[derive(Debug)]
pub struct Replay<R> {
    reader: R,
    line: usize,
    pod: Pod,
    machine: Machine,
    /// Boot time of the first step.
    origin: Option<Duration>,
    now: Now,
    is_over: bool,
}

impl<R: BufRead> Replay<R> {
    /// Reads the first line of a journal.
    ///
    /// # Errors
    ///
    /// [`JournalError`] where it cannot be read or is not the beginning of a journal of this version.
    pub fn new(mut reader: R) -> Result<Self, JournalError> {
        let Some(Entry::Pod { version, pod }) = read(&mut reader, 1)? else {
            return Err(JournalError::Misplaced { line: 1, problem: "a journal begins with the Pod" });
        };
        if version != VERSION {
            return Err(JournalError::Version { version });
        }
        let (pod, _) = from_json(pod)?;
        let machine = Machine::new(&pod);
        let now = Now { wall: podrun_spec::time::Timestamp(0), boot: Duration::ZERO };
        Ok(Self { reader, line: 1, pod, machine, origin: None, now, is_over: false })
    }

    /// Returns the Pod whose life it is.
    pub const fn pod(&self) -> &Pod {
        &self.pod
    }

    fn step(&mut self, now: Now, input: Input, journal: Option<Vec<Action>>) -> Replayed {
        let origin = *self.origin.get_or_insert(now.boot);
        self.now = now;
        let before = self.machine.status();
        let actions = self.machine.step(now, input.clone());
        let status = self.machine.status();
        let lines = lines(now.boot.saturating_sub(origin), &input, &actions, &before, &status);
        let divergence =
            journal.filter(|journal| *journal != actions).map(|journal| Divergence::Actions { journal });
        Replayed { line: self.line, now, input: Some(input), actions, status, lines, divergence }
    }

    fn resume(&mut self, state: State) -> Replayed {
        let expected = Machine::restore(&self.pod, self.machine.state().clone());
        let divergence = (*expected.state() != state).then_some(Divergence::State);
        self.machine = Machine::restore(&self.pod, state);
        Replayed {
            line: self.line,
            now: self.now,
            input: None,
            actions: Vec::new(),
            status: self.machine.status(),
            lines: Vec::new(),
            divergence,
        }
    }
}

impl<R: BufRead> Iterator for Replay<R> {
    type Item = Result<Replayed, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        self.line += 1;
        let entry = read(&mut self.reader, self.line);
        self.is_over = !matches!(entry, Ok(Some(Entry::Step { .. } | Entry::Resumed { .. })));
        match entry {
            Ok(Some(Entry::Step { now, input, actions })) => Some(Ok(self.step(now, input, actions))),
            Ok(Some(Entry::Resumed { state })) => Some(Ok(self.resume(*state))),
            Ok(Some(Entry::Pod { .. })) => {
                Some(Err(JournalError::Misplaced { line: self.line, problem: "a second Pod" }))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// Reads a line; none at the end, and none where the last line was cut off.
fn read(reader: &mut impl BufRead, line: usize) -> Result<Option<Entry>, JournalError> {
    let mut text = Vec::new();
    reader.read_until(b'\n', &mut text).map_err(|source| JournalError::Read { line, source })?;
    if text.is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(&text) {
        Ok(entry) => Ok(Some(entry)),
        Err(_) if text.last() != Some(&b'\n') => Ok(None),
        Err(source) => Err(JournalError::Decode { line, source }),
    }
}
