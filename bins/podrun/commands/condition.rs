//! `podrun condition`: sets a condition that is not podrun's own, such as a readiness gate's.

use podrun_engine::Error;

use crate::cli::{ConditionArgs, Global};
use crate::context;
use crate::exit_code::Code;
use crate::print::println;
use crate::report::{CommandError, CommandResult};
use crate::selection::pod_names;

pub(crate) fn run(global: &Global, args: &ConditionArgs) -> CommandResult {
    let names = pod_names(std::slice::from_ref(&args.pod))?;
    let name = names.first().map_or("", String::as_str);
    let (kind, status) = &args.condition;
    if let Some(why) = podrun_spec::label_faults(kind, "").into_iter().next() {
        return Err(CommandError::new(Code::Usage, format!("condition {kind:?}: {why}")));
    }
    let engine = context::engine(global)?;
    context::revive(&engine);
    let view = engine.pod(global.namespace(), name)?;
    if !view.supervised {
        let phase = view.published.status.phase.as_str();
        return Err(CommandError::new(Code::Conflict, format!("pod \"{name}\" has ended ({phase})")));
    }
    let mut client = engine.connect(&view.pod)?;
    match client.set_condition(kind, *status, args.reason.as_deref(), args.message.as_deref()) {
        // It is what was asked for that is wrong.
        Err(Error::Refused { answer, .. }) => return Err(CommandError::new(Code::Invalid, answer)),
        set => set?,
    }
    println!("pod/{name} condition {kind} set");
    Ok(Code::Ok)
}

/// Reads `TYPE=True` or `TYPE=False`.
pub(crate) fn parse(text: &str) -> Result<(String, bool), String> {
    let wrong = || format!("expected TYPE=True or TYPE=False, got {text:?}");
    let (kind, status) = text.rsplit_once('=').ok_or_else(wrong)?;
    match status.to_ascii_lowercase().as_str() {
        "true" => Ok((kind.to_owned(), true)),
        "false" => Ok((kind.to_owned(), false)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn conditions_are_true_or_false() {
        assert_eq!(parse("example.com/gate=True"), Ok(("example.com/gate".to_owned(), true)));
        assert_eq!(parse("gate=false"), Ok(("gate".to_owned(), false)));
        for wrong in ["gate", "gate=", "gate=maybe"] {
            parse(wrong).unwrap_err();
        }
    }
}
