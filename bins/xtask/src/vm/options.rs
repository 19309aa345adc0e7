//! What `cargo xtask vm` is told.

use std::time::Duration;

use crate::debian::Suite;
use crate::process::{Failure, Result};

/// Emulation is slow; whoever needs longer says so.
const DEFAULT_LIMIT: Duration = Duration::from_secs(600);

/// The flags of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) kvm: bool,
    pub(crate) suite: Suite,
    pub(crate) limit: Duration,
    pub(crate) command: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { kvm: false, suite: Suite::Backports, limit: DEFAULT_LIMIT, command: Vec::new() }
    }
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--kvm" => options.kvm = true,
                "--kernel" => {
                    options.suite = match rest.next().map(String::as_str) {
                        Some("backports") => Suite::Backports,
                        Some("stable") => Suite::Stable,
                        _ => return Err(Failure::usage("--kernel takes backports or stable")),
                    }
                }
                "--timeout" => {
                    let seconds = rest.next().and_then(|word| word.parse().ok());
                    let seconds = seconds.ok_or_else(|| Failure::usage("--timeout takes seconds"))?;
                    options.limit = Duration::from_secs(seconds);
                }
                "--" => options.command = rest.by_ref().cloned().collect(),
                other => {
                    return Err(Failure::usage(format!(
                        "vm: unexpected argument {other}; commands follow --"
                    )));
                }
            }
        }
        if options.command.is_empty() {
            return Err(Failure::usage("vm: which command? cargo xtask vm -- COMMAND..."));
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_of_the_command_stay_with_the_command() {
        let options = parse("--kvm --timeout 5 --kernel stable -- ls --kvm -- x").expect("fine");
        assert_eq!(options.command, ["ls", "--kvm", "--", "x"]);
        assert!(options.kvm);
        assert_eq!((options.suite, options.limit), (Suite::Stable, Duration::from_secs(5)));
    }

    #[test]
    fn what_is_not_understood_is_a_usage_error() {
        for line in ["", "--", "ls", "--timeout -- ls", "--timeout soon -- ls", "--kernel 6.1 -- ls"] {
            assert_eq!(parse(line).expect_err(line).code, 2, "{line}");
        }
    }
}
