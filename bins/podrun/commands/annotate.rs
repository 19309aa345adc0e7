//! `podrun annotate`: sets and removes annotations of a Pod, with kubectl's words.

use std::collections::BTreeMap;

use crate::cli::{AnnotateArgs, Global};
use crate::context;
use crate::exit_code::Code;
use crate::print::println;
use crate::report::{CommandError, CommandResult};
use crate::selection::pod_names;

/// Keys with their new values; none removes one.
type Changes = BTreeMap<String, Option<String>>;

pub(crate) fn run(global: &Global, args: &AnnotateArgs) -> CommandResult {
    let words = pod_names(&args.what)?;
    let (name, words) = words.split_first().ok_or_else(|| usage("no Pod is named"))?;
    let changes = parse(words).map_err(|message| usage(&message))?;
    let engine = context::engine(global)?;
    context::revive(&engine);
    let view = engine.pod(global.namespace(), name)?;
    if !args.overwrite {
        let own = &view.pod.meta.annotations;
        let differs = |(key, value): &(&String, &Option<String>)| {
            value.as_ref().is_some_and(|value| own.get(*key).is_some_and(|old| old != value))
        };
        let taken: Vec<String> = changes
            .iter()
            .filter(differs)
            .map(|(key, _)| format!("'{key}' already has a value ({})", own[key]))
            .collect();
        if !taken.is_empty() {
            let message = "--overwrite is false but found the following declared annotation(s): ";
            return Err(CommandError::new(Code::Conflict, format!("{message}{}", taken.join("; "))));
        }
    }
    // The supervisor would say the same, but that it is what was asked for that is wrong shows in the code.
    view.wire
        .with_annotations(&changes)
        .map_err(|faults| CommandError::new(Code::Invalid, faults.join("; ")))?;
    engine.annotate(&view, &changes)?;
    println!("pod/{name} annotated");
    Ok(Code::Ok)
}

fn usage(message: &str) -> CommandError {
    CommandError::new(Code::Usage, message)
        .with_hint("podrun annotate pod NAME KEY=VALUE, or KEY- to remove one")
}

fn parse(words: &[String]) -> Result<Changes, String> {
    let mut changes = Changes::new();
    for word in words {
        let (key, value) = match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Some(value.to_owned())),
            (None, Some(key)) => (key, None),
            (None, None) => return Err(format!("expected KEY=VALUE or KEY-, got {word:?}")),
        };
        if changes.insert(key.to_owned(), value).is_some() {
            return Err(format!("{key:?} is given twice"));
        }
    }
    if changes.is_empty() {
        Err("at least one annotation update is required".to_owned())
    } else {
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_set_and_removed() {
        let parsed = |words: &[&str]| parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        let changes = parsed(&["a=1", "b=", "c-", "d=e=f", "g=h-"]).unwrap();
        let value = |key: &str| changes[key].as_deref();
        assert_eq!((value("a"), value("b"), value("c")), (Some("1"), Some(""), None));
        assert_eq!((value("d"), value("g")), (Some("e=f"), Some("h-")));
        for wrong in [&["a"][..], &[], &["a=1", "a-"]] {
            parsed(wrong).unwrap_err();
        }
    }
}
