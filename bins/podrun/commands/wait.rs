//! `podrun wait`: until Pods have a condition, a value, or are gone.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use podrun_engine::{Engine, Error, PodChanges, PodView};

use super::get::pod_document;
use crate::cli::{Global, WaitArgs};
use crate::exit_code::Code;
use crate::print::println;
use crate::report::{CommandError, CommandResult};
use crate::selection::Selection;
use crate::watch::{Change, Next, Watches, has_ended};
use crate::{context, jsonpath, output};

/// How long kubectl waits if it is told a negative time.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// The conditions of every Pod.
const CONDITIONS: [&str; 5] =
    ["Ready", "ContainersReady", "Initialized", "PodScheduled", "PodReadyToStartContainers"];

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A condition with that status.
    Condition { kind: String, status: bool },
    /// What a template gives; none is anything at all.
    JsonPath { template: String, value: Option<String> },
    /// That there is such a Pod.
    Create,
    /// The end of the Pod and its records.
    Delete,
}

impl Wanted {
    /// Reads `condition=TYPE[=STATUS]`, `jsonpath=TEMPLATE[=VALUE]`, `create`, `delete`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("delete") {
            return Ok(Self::Delete);
        }
        if text.eq_ignore_ascii_case("create") {
            return Ok(Self::Create);
        }
        if let Some(condition) = text.strip_prefix("condition=") {
            let (kind, status) = condition.split_once('=').unwrap_or((condition, "true"));
            let status = match status.to_ascii_lowercase().as_str() {
                "true" => true,
                "false" => false,
                _ => return Err(format!("a condition is True or False, got {status:?}")),
            };
            return Ok(Self::Condition { kind: kind.to_owned(), status });
        }
        let Some(path) = text.strip_prefix("jsonpath=") else {
            let mut wrong =
                "expected condition=TYPE[=STATUS], jsonpath=TEMPLATE[=VALUE], create or delete".to_owned();
            if CONDITIONS.iter().any(|condition| condition.eq_ignore_ascii_case(text)) {
                wrong.push_str(&format!("; did you mean condition={text}?"));
            }
            return Err(wrong);
        };
        // A template may hold `=` inside its braces.
        let unquoted = path.trim_start_matches('\'');
        let (template, rest) = match unquoted.rfind('}') {
            Some(end) => unquoted.split_at(end + 1),
            None => unquoted.split_at(unquoted.find('=').unwrap_or(unquoted.len())),
        };
        let rest = rest.trim_start_matches('\'');
        let value = rest.strip_prefix('=').map(|value| value.trim_matches(['\'', '"']).to_owned());
        if value.is_none() && !rest.is_empty() || value.as_deref() == Some("") {
            return Err(format!("expected jsonpath=TEMPLATE[=VALUE], got {text:?}"));
        }
        jsonpath::render(template, &serde_json::Value::Null)?;
        Ok(Self::JsonPath { template: template.to_owned(), value })
    }

    fn is_met(&self, view: &PodView) -> bool {
        match self {
            Self::Condition { kind, status } => {
                let mut conditions = view.published.status.conditions.iter();
                conditions.any(|c| c.kind.eq_ignore_ascii_case(kind) && c.status == *status)
            }
            Self::JsonPath { template, value } => {
                let found = jsonpath::render(template, &pod_document(view)).unwrap_or_default();
                let found = found.trim_end_matches('\n');
                value.as_ref().map_or(!found.is_empty(), |value| found == value)
            }
            Self::Create => true,
            Self::Delete => false,
        }
    }
}

/// Reads how long to wait; as for kubectl, a negative time is a week.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    match text.strip_prefix('-') {
        Some(negative) => output::duration(negative).map(|_| WEEK),
        None => output::duration(text),
    }
}

pub(crate) fn run(global: &Global, args: &WaitArgs) -> CommandResult {
    let engine = context::engine(global)?;
    context::revive(&engine);
    let deadline = Instant::now() + args.timeout;
    // Taken before the Pods are looked at: what is removed in between is not missed.
    let removals = engine.changes()?;
    let mut watches = Watches::new(&engine);
    let mut waiting = Vec::new();
    if args.wanted == Wanted::Create {
        return until_created(global, args, &engine, &removals, deadline);
    }
    for view in wanted(global, args, &engine)? {
        if args.wanted.is_met(&view) {
            tell(&view, &args.wanted);
        } else {
            waiting.push(watches.add(view));
        }
    }
    while !waiting.is_empty() {
        let done = match watches.next(Some(removals.as_fd()), Some(deadline)) {
            Next::Timeout | Next::Nothing => {
                return Err(timed_out(&watches.view(waiting[0]).pod.meta.name));
            }
            Next::Other => {
                removals.clear();
                waiting.iter().copied().find(|&index| is_gone(&engine, watches.view(index)))
            }
            Next::Change(index, Change::Ended { removed: true }) => Some(index),
            Next::Change(index, Change::Status) => args.wanted.is_met(watches.view(index)).then_some(index),
            Next::Change(index, Change::Ended { removed: false }) if args.wanted != Wanted::Delete => {
                let view = watches.view(index);
                if waiting.contains(&index) && has_ended(view) && !args.wanted.is_met(view) {
                    return Err(missed(view));
                }
                None
            }
            Next::Change(..) => None,
        };
        let Some(index) = done.filter(|index| waiting.contains(index)) else { continue };
        let view = watches.view(index);
        if args.wanted != Wanted::Delete && !args.wanted.is_met(view) {
            return Err(missed(view));
        }
        tell(view, &args.wanted);
        waiting.retain(|&other| other != index);
    }
    Ok(Code::Ok)
}

/// Waits until there are Pods of all names.
fn until_created(
    global: &Global,
    args: &WaitArgs,
    engine: &Engine,
    changes: &PodChanges,
    deadline: Instant,
) -> CommandResult {
    let Selection::Named(mut names) = Selection::read(&args.what, args.all, args.filter.filter())? else {
        return Err(CommandError::new(Code::Usage, "--for=create needs the name of a Pod"));
    };
    loop {
        // Before looking: what is created meanwhile is not missed.
        changes.clear();
        let mut missing = Vec::new();
        for name in names {
            match engine.pod(global.namespace(), &name) {
                Ok(view) => tell(&view, &args.wanted),
                Err(Error::NotFound { .. }) => missing.push(name),
                Err(error) => return Err(error.into()),
            }
        }
        names = missing;
        let Some(first) = names.first() else { return Ok(Code::Ok) };
        match Watches::new(engine).next(Some(changes.as_fd()), Some(deadline)) {
            Next::Timeout => return Err(timed_out(first)),
            Next::Other | Next::Nothing | Next::Change(..) => {}
        }
    }
}

/// Returns the Pods that are waited for. One that is not there is gone, if that is what is waited for.
fn wanted(global: &Global, args: &WaitArgs, engine: &Engine) -> Result<Vec<PodView>, CommandError> {
    let selection = Selection::read(&args.what, args.all, args.filter.filter())?;
    let names = match &selection {
        Selection::Named(names) if names.is_empty() => {
            return Err(CommandError::new(Code::Usage, "no Pod is named")
                .with_hint("podrun wait pod NAME, or -l SELECTOR, or --all"));
        }
        Selection::Named(names) => names,
        Selection::All | Selection::Filtered(_) => {
            let (views, _) = context::select(engine, global, &selection, false)?;
            if views.is_empty() && args.wanted != Wanted::Delete {
                return Err(CommandError::new(Code::NotFound, "no matching resources found"));
            }
            return Ok(views);
        }
    };
    let mut views = Vec::new();
    for name in names {
        match engine.pod(global.namespace(), name) {
            Err(Error::NotFound { .. }) if args.wanted == Wanted::Delete => {}
            view => views.push(view?),
        }
    }
    Ok(views)
}

fn is_gone(engine: &Engine, view: &PodView) -> bool {
    match engine.pod(&view.pod.meta.namespace, &view.pod.meta.name) {
        Ok(now) => now.pod.meta.uid != view.pod.meta.uid,
        Err(error) => matches!(error, Error::NotFound { .. }),
    }
}

fn tell(view: &PodView, wanted: &Wanted) {
    let what = if *wanted == Wanted::Delete { "deleted" } else { "condition met" };
    println!("pod/{} {what}", view.pod.meta.name);
}

fn timed_out(name: &str) -> CommandError {
    CommandError::new(Code::Timeout, format!("timed out waiting for the condition on pods/{name}"))
}

/// The Pod has ended: what it waits for cannot come any more.
fn missed(view: &PodView) -> CommandError {
    let (name, phase) = (&view.pod.meta.name, view.published.status.phase.as_str());
    CommandError::new(Code::Failure, format!("pod \"{name}\" has ended ({phase}) without the condition"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_values_and_deletions_are_waited_for() {
        let condition = |kind: &str, status| Wanted::Condition { kind: kind.into(), status };
        let path = |template: &str, value: Option<&str>| Wanted::JsonPath {
            template: template.into(),
            value: value.map(str::to_owned),
        };
        for (text, expected) in [
            ("condition=Ready", condition("Ready", true)),
            ("condition=Ready=false", condition("Ready", false)),
            ("condition=example.com/x=True", condition("example.com/x", true)),
            ("delete", Wanted::Delete),
            ("create", Wanted::Create),
            ("jsonpath={.status.phase}=Running", path("{.status.phase}", Some("Running"))),
            ("jsonpath='{.status.phase}'=Running", path("{.status.phase}", Some("Running"))),
            ("jsonpath={.a[?(@.b==\"c\")].d}=e", path("{.a[?(@.b==\"c\")].d}", Some("e"))),
            ("jsonpath={.status.podIP}", path("{.status.podIP}", None)),
            ("jsonpath=.status.phase=Running", path(".status.phase", Some("Running"))),
        ] {
            assert_eq!(Wanted::parse(text).as_ref(), Ok(&expected), "{text}");
        }
        for wrong in
            ["", "ready", "condition=Ready=maybe", "jsonpath={.a}=", "jsonpath={.a", "jsonpath={.a}b"]
        {
            Wanted::parse(wrong).unwrap_err();
        }
        assert!(Wanted::parse("Ready").unwrap_err().ends_with("did you mean condition=Ready?"));
        assert_eq!(
            (timeout("-1s"), timeout("0"), timeout("5s")),
            (Ok(WEEK), Ok(Duration::ZERO), Ok(Duration::from_secs(5)))
        );
        timeout("-x").unwrap_err();
    }
}
