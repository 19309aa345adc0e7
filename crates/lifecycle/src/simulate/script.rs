//! The grammar of scripts.

use std::str::FromStr;
use std::time::Duration;

use podrun_spec::model::{HookKind, Pod, ProbeKind};

/// What happens in a simulated world, and when. Facts stand in order of their times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    facts: Vec<TimedFact>,
}

/// A fact and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedFact {
    /// Since the beginning.
    pub at: Duration,
    /// What happens.
    pub fact: Fact,
}

/// Something that happens; the table in the [module](crate::simulate) says how each is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `exit:C=CODE`
    Exit(String, i32),
    /// `oom:C`
    Oom(String),
    /// `run:C=D/CODE`, or none with `run:C=on`
    Run(String, Option<(Duration, i32)>),
    /// `probe:C/KIND=ok|fail`
    Probe(String, ProbeKind, bool),
    /// `hook:C/HOOK=…`
    Hook(String, HookKind, Mode),
    /// `term:C=CODE`
    TermCode(String, i32),
    /// `term:C=D`, or none with `ignore-term:C`
    Term(String, Option<Duration>),
    /// `pull:C=…`
    Pull(String, Mode),
    /// `start:C=…`
    Start(String, Mode),
    /// `volumes=ok|fail`
    Volumes(bool),
    /// `sandbox=ok|fail`
    Sandbox(bool),
    /// `sandbox-lost`
    SandboxLost,
    /// `condition:TYPE=True|False`
    Condition(String, bool),
    /// `unschedulable=TEXT`
    Unschedulable(String),
    /// `admit`
    Admit,
    /// `reject:REASON=TEXT`
    Reject(String, String),
    /// `evict=TEXT`
    Evict(String),
    /// `delete`, `delete=SECONDS`
    Delete(Option<u64>),
}

/// How something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `ok`
    Well,
    /// `D`: well, but only then.
    After(Duration),
    /// `fail`
    Fails,
    /// `hang` of a hook, `absent` of an image, `error` of a start.
    Otherwise,
}

/// Why a script makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// Not of the form TIME:FACT.
    #[error("read `{text}`: expected {expected}")]
    Syntax {
        /// What was written.
        text: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// The Pod has no such container.
    #[error("the Pod has no container `{container}`; it has {}", known.join(", "))]
    UnknownContainer {
        /// What was written.
        container: String,
        /// What the Pod has.
        known: Vec<String>,
    },
    /// The container has no such probe or hook.
    #[error("container `{container}` has no {what}")]
    Missing {
        /// The container.
        container: String,
        /// `livenessProbe`, `preStop`.
        what: &'static str,
    },
}

impl Script {
    /// Returns the script of these facts.
    pub fn new(mut facts: Vec<TimedFact>) -> Self {
        facts.sort_by_key(|fact| fact.at);
        Self { facts }
    }

    /// Returns the facts in order of their times.
    pub fn facts(&self) -> &[TimedFact] {
        &self.facts
    }

    /// Checks that the Pod has what the script names.
    pub(crate) fn check(&self, pod: &Pod) -> Result<(), ScriptError> {
        for TimedFact { fact, .. } in &self.facts {
            let Some(name) = fact.container() else { continue };
            let Some((_, container)) = pod.spec.container(name) else {
                let known = pod.spec.all_containers().map(|(_, c)| c.name.clone()).collect();
                return Err(ScriptError::UnknownContainer { container: name.to_owned(), known });
            };
            let missing = match fact {
                Fact::Probe(_, kind, _) if container.life.probe(*kind).is_none() => Some(probe_field(*kind)),
                Fact::Hook(_, kind, _) if container.life.hook(*kind).is_none() => Some(hook_word(*kind)),
                _ => None,
            };
            if let Some(what) = missing {
                return Err(ScriptError::Missing { container: name.to_owned(), what });
            }
        }
        Ok(())
    }
}

impl Fact {
    /// Returns whether it says how things go from now on, rather than that something happens.
    pub(crate) const fn is_setting(&self) -> bool {
        matches!(
            self,
            Self::Run(..)
                | Self::Probe(..)
                | Self::Hook(..)
                | Self::TermCode(..)
                | Self::Term(..)
                | Self::Pull(..)
                | Self::Start(..)
                | Self::Volumes(_)
                | Self::Sandbox(_)
        )
    }

    fn container(&self) -> Option<&str> {
        match self {
            Self::Exit(c, _)
            | Self::Oom(c)
            | Self::Run(c, _)
            | Self::Probe(c, ..)
            | Self::Hook(c, ..)
            | Self::TermCode(c, _)
            | Self::Term(c, _)
            | Self::Pull(c, _)
            | Self::Start(c, _) => Some(c),
            _ => None,
        }
    }
}

/// Facts apart by white space. A text with blanks cannot be written this way.
impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        Ok(Self::new(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?))
    }
}

impl FromStr for TimedFact {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let wrong = |expected| ScriptError::Syntax { text: text.to_owned(), expected };
        let (time, fact) = text.split_once(':').ok_or_else(|| wrong("TIME:FACT, as in 30s:exit:web=137"))?;
        let at = duration(time).ok_or_else(|| wrong("a time before the first colon, as 30s or 1m30s"))?;
        Ok(Self { at, fact: fact.parse().map_err(wrong)? })
    }
}

impl FromStr for Fact {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (left, value) = text.split_once('=').map_or((text, None), |(left, value)| (left, Some(value)));
        let (word, about) = left.split_once(':').map_or((left, ""), |(word, about)| (word, about));
        let c = about.to_owned();
        let needs_name = matches!(
            word,
            "exit"
                | "oom"
                | "run"
                | "probe"
                | "hook"
                | "term"
                | "ignore-term"
                | "pull"
                | "start"
                | "condition"
                | "reject"
        );
        if needs_name && c.is_empty() {
            return Err("a name after the colon, as in exit:web=1");
        }
        if !needs_name && !c.is_empty() {
            return Err("no name after this fact");
        }
        let code = |value: Option<&str>| {
            let code = value.and_then(|v| v.parse().ok()).filter(|code| (0..=255).contains(code));
            code.ok_or("an exit code from 0 to 255")
        };
        let good = |value: Option<&str>| match value {
            Some("ok") => Ok(true),
            Some("fail") => Ok(false),
            _ => Err("=ok or =fail"),
        };
        let said = |value: Option<&str>| value.map(str::to_owned).ok_or("a text, as in unschedulable=why");
        let none = |fact| if value.is_none() { Ok(fact) } else { Err("no value after this fact") };
        match word {
            "exit" => Ok(Self::Exit(c, code(value)?)),
            "oom" => none(Self::Oom(c)),
            "run" if value == Some("on") => Ok(Self::Run(c, None)),
            "run" => {
                let run = value.and_then(|v| v.split_once('/'));
                let run = run.and_then(|(time, exit)| Some((duration(time)?, code(Some(exit)).ok()?)));
                Ok(Self::Run(
                    c,
                    Some(run.ok_or("a time and an exit code, as in run:web=5s/1, or run:web=on")?),
                ))
            }
            "probe" => {
                let (c, kind) = about.split_once('/').unwrap_or((about, ""));
                let kind = match kind {
                    "startup" => ProbeKind::Startup,
                    "liveness" => ProbeKind::Liveness,
                    "readiness" => ProbeKind::Readiness,
                    _ => return Err("a probe, as in probe:web/liveness=fail"),
                };
                Ok(Self::Probe(c.to_owned(), kind, good(value)?))
            }
            "hook" => {
                let (c, hook) = about.split_once('/').unwrap_or((about, ""));
                let hook = match hook {
                    "postStart" => HookKind::PostStart,
                    "preStop" => HookKind::PreStop,
                    _ => return Err("a hook, as in hook:web/preStop=fail"),
                };
                let mode = mode(value, "hang").ok_or("=ok, =fail, =hang or a time")?;
                Ok(Self::Hook(c.to_owned(), hook, mode))
            }
            "ignore-term" => none(Self::Term(c, None)),
            "term" => match (value.and_then(duration), code(value)) {
                (Some(after), _) => Ok(Self::Term(c, Some(after))),
                (None, Ok(code)) => Ok(Self::TermCode(c, code)),
                (None, Err(_)) => Err("an exit code or a time, as in term:web=3s"),
            },
            "pull" => Ok(Self::Pull(c, mode(value, "absent").ok_or("=ok, =fail, =absent or a time")?)),
            "start" => Ok(Self::Start(c, mode(value, "error").ok_or("=ok, =fail, =error or a time")?)),
            "volumes" => Ok(Self::Volumes(good(value)?)),
            "sandbox" => Ok(Self::Sandbox(good(value)?)),
            "sandbox-lost" => none(Self::SandboxLost),
            "condition" => match value {
                Some("True") => Ok(Self::Condition(c, true)),
                Some("False") => Ok(Self::Condition(c, false)),
                _ => Err("=True or =False"),
            },
            "unschedulable" => Ok(Self::Unschedulable(said(value)?)),
            "admit" => none(Self::Admit),
            "reject" => Ok(Self::Reject(c, said(value)?)),
            "evict" => Ok(Self::Evict(said(value)?)),
            "delete" => match value {
                None => Ok(Self::Delete(None)),
                Some(seconds) => {
                    seconds.parse().map(|s| Self::Delete(Some(s))).map_err(|_| "seconds, as in delete=5")
                }
            },
            _ => Err("a fact, as exit:web=1, probe:web/liveness=fail, sandbox-lost or delete=5"),
        }
    }
}

fn mode(value: Option<&str>, otherwise: &str) -> Option<Mode> {
    match value? {
        "ok" => Some(Mode::Well),
        "fail" => Some(Mode::Fails),
        word if word == otherwise => Some(Mode::Otherwise),
        time => duration(time).map(Mode::After),
    }
}

/// Reads `1h`, `1m30s`, `500ms`, `1.5s`.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 4] = [("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001)];
    let mut rest = text;
    let mut total = 0.0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let letters = &rest[end..];
        let length = letters.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(letters.len());
        let (_, factor) = units.find(|(unit, _)| *unit == &letters[..length])?;
        total += number * factor;
        rest = &letters[length..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(total).ok() }
}

const fn probe_field(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Startup => "startupProbe",
        ProbeKind::Liveness => "livenessProbe",
        ProbeKind::Readiness => "readinessProbe",
    }
}

const fn hook_word(kind: HookKind) -> &'static str {
    match kind {
        HookKind::PostStart => "postStart hook",
        HookKind::PreStop => "preStop hook",
    }
}
