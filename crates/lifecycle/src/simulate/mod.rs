//! What would become of a Pod: its life in a world that does what a script says, and otherwise what it should.
//!
//! Volumes, sandbox and images are there after a moment, containers start at once and run on, init containers do their job,
//! probes and hooks succeed, stop signals are obeyed with exit code 0. A script says what is different, and when:
//!
//! ```text
//! TIME:FACT            30s:exit:web=137     1m30s:delete=5     500ms:sandbox-lost
//! ```
//!
//! TIME counts from the beginning: numbers with `h`, `m`, `s` or `ms`, largest first. FACT is one of these; `C` is a
//! container, `D` a time.
//!
//! | fact | what happens |
//! |---|---|
//! | `exit:C=CODE` | the running process ends; nothing happens if there is none |
//! | `oom:C` | the kernel kills it for lack of memory |
//! | `run:C=D/CODE` | from now on each run lasts that long and ends with the code |
//! | `run:C=on` | from now on runs last until something ends them |
//! | `probe:C/KIND=ok`, `=fail` | from now on `startup`, `liveness` or `readiness` probes of C succeed or fail; period, delay and thresholds are those of the Pod |
//! | `hook:C/HOOK=ok`, `=fail`, `=hang`, `=D` | what `postStart` or `preStop` does from now on; with a time it succeeds after that |
//! | `term:C=CODE`, `=D` | the code with which C obeys its stop signal from now on, or how long it takes |
//! | `ignore-term:C` | from now on C ignores its stop signal |
//! | `pull:C=ok`, `=fail`, `=absent`, `=D` | what becomes of its image from now on: it is pulled at once or after that time, cannot be pulled, or is absent and must not be pulled |
//! | `start:C=ok`, `=fail`, `=error`, `=D` | how its process starts from now on: at once or after that time, it cannot be executed, it cannot be created |
//! | `volumes=ok`, `=fail`; `sandbox=ok`, `=fail` | whether they can be made from now on |
//! | `sandbox-lost` | the sandbox dies with all that is in it |
//! | `condition:TYPE=True`, `=False` | somebody sets a condition |
//! | `unschedulable=TEXT` | there is no room for the Pod; at `0s` it is so from the beginning |
//! | `admit` | there is room after all |
//! | `reject:REASON=TEXT` | the node rejects the Pod; at `0s` only |
//! | `evict=TEXT` | the Pod is evicted |
//! | `delete`, `delete=SECONDS` | somebody deletes it |
//!
//! ```
//! use podrun_lifecycle::simulate::{Options, Script, simulate};
//!
//! let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: web, image: 'nginx:1'}]}}";
//! let pod = podrun_spec::parse("p.yaml", text)?.pods.remove(0).pod;
//! let script: Script = "30s:exit:web=137 90s:delete=5".parse()?;
//! let timeline = simulate(&pod, &script, &Options::default())?;
//! assert_eq!(timeline.status().container_statuses[0].restart_count, 1);
//! timeline.lines().iter().for_each(|line| println!("{line}"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod probers;
mod script;
mod world;

use std::time::Duration;

use podrun_spec::model::Pod;
use podrun_spec::status::PodStatus;
use podrun_spec::time::Timestamp;

use crate::action::Action;
use crate::input::Input;
use crate::timeline::{self, Line};

pub use script::{Fact, Mode, Script, ScriptError, TimedFact};

/// How long things take in the simulated world, and how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Wall-clock time of the beginning.
    pub begin: Timestamp,
    /// What volumes and sandbox take, each.
    pub setup: Duration,
    /// What looking for an image takes.
    pub image: Duration,
    /// What creating and starting a container takes.
    pub start: Duration,
    /// How long an init container works.
    pub init: Duration,
    /// What a process takes to obey its stop signal, or to die.
    pub exit: Duration,
    /// The simulation ends so long after the last fact of the script, if the Pod has not ended or come to rest before.
    pub after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            begin: Timestamp(0),
            setup: Duration::from_millis(100),
            image: Duration::from_millis(10),
            start: Duration::from_millis(100),
            init: Duration::from_secs(1),
            exit: Duration::from_millis(10),
            after: Duration::from_secs(600),
        }
    }
}

/// A step of a simulated life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since the beginning.
    pub at: Duration,
    /// What the machine was told.
    pub input: Input,
    /// What it decided.
    pub actions: Vec<Action>,
    /// The status that resulted.
    pub status: PodStatus,
}

/// A simulated life.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Its steps, at least one.
    pub moments: Vec<Moment>,
    /// How it ended.
    pub end: End,
}

impl Timeline {
    /// Returns the last status.
    pub fn status(&self) -> PodStatus {
        self.moments.last().map(|moment| moment.status.clone()).unwrap_or_default()
    }

    /// Returns the steps in words.
    pub fn lines(&self) -> Vec<Line> {
        let mut before = PodStatus::default();
        let mut lines = Vec::new();
        for moment in &self.moments {
            let step = timeline::lines(moment.at, &moment.input, &moment.actions, &before, &moment.status);
            lines.extend(step);
            before = moment.status.clone();
        }
        lines
    }
}

/// How a simulation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Nothing of the Pod is left.
    Finished,
    /// Nothing more would happen.
    Quiet,
    /// Time was up, or 100,000 steps were made.
    TimeUp,
}

/// Simulates the life of a Pod.
///
/// # Errors
///
/// [`ScriptError`] where the script names a container, probe or hook that the Pod does not have.
pub fn simulate(pod: &Pod, script: &Script, options: &Options) -> Result<Timeline, ScriptError> {
    script.check(pod)?;
    Ok(world::World::new(pod, script, *options).live())
}
