//! Errors, as the user sees them: one line each, the chain of causes once, a hint where there is one.

use std::error::Error as StdError;
use std::io;
use std::process::ExitCode;

pub(crate) use podrun_engine::chain;
use podrun_spec::{Fault, Faults};
use serde_json::json;

use crate::exit_code::Code;
use crate::print::eprintln;
use crate::{selection, usage};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// Everything that is wrong with a manifest.
    Manifest(Faults),
    /// The engine failed.
    Engine(podrun_engine::Error),
    /// The image store failed.
    Image(podrun_image::Error),
    /// Anything else, with its exit code.
    Plain {
        /// The line.
        message: String,
        /// What may help.
        hint: Option<String>,
        /// The exit code.
        code: Code,
    },
}

pub(crate) type CommandResult = Result<Code, CommandError>;

impl CommandError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self::Plain { message: message.into(), hint: None, code }
    }

    pub(crate) fn io(verb: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Engine };
        Self::new(code, format!("{verb} {}: {error}", path.display()))
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Plain { message, code, .. } => Self::Plain { message, hint: Some(hint.into()), code },
            other => other,
        }
    }

    fn code(&self) -> Code {
        use podrun_engine::Error;
        match self {
            Self::Manifest(_) => Code::Invalid,
            Self::Engine(Error::Unplannable { .. }) => Code::Invalid,
            Self::Engine(Error::NotFound { .. } | Error::Gone { .. }) => Code::NotFound,
            Self::Engine(Error::AlreadyExists { .. }) => Code::Conflict,
            Self::Engine(_) => Code::Engine,
            Self::Image(error) => image_code(error),
            Self::Plain { code, .. } => *code,
        }
    }

    pub(crate) fn message(&self) -> String {
        match self {
            Self::Manifest(faults) => faults.to_string(),
            Self::Engine(error) => chain(error),
            Self::Image(error) => chain(error),
            Self::Plain { message, .. } => message.clone(),
        }
    }

    fn hint(&self) -> Option<String> {
        use podrun_engine::Error;
        let denied = |error: &(dyn StdError + 'static)| {
            errno(error) == Some(libc::EACCES) || errno(error) == Some(libc::EPERM)
        };
        match self {
            Self::Manifest(_) => None,
            Self::Engine(Error::AlreadyExists { namespace, name }) => Some(if namespace == "default" {
                format!("podrun delete pod {name} removes it")
            } else {
                format!("podrun delete pod {name} -n {namespace} removes it")
            }),
            Self::Engine(Error::NotFound { name, .. }) => selection::hint_for(name),
            Self::Engine(error) if denied(error) && !nix::unistd::geteuid().is_root() => {
                Some("podrun needs root for this; --root DIR moves its state".to_owned())
            }
            Self::Engine(Error::Corrupt { .. } | Error::SupervisorEnded { .. }) => {
                Some("podrun delete pod NAME --force removes a pod whose state cannot be read".to_owned())
            }
            Self::Image(podrun_image::Error::NameTaken { .. }) => {
                Some("--replace gives the name to the new image".to_owned())
            }
            Self::Engine(_) | Self::Image(_) => None,
            Self::Plain { hint, .. } => hint.clone(),
        }
    }
}

impl From<podrun_engine::Error> for CommandError {
    fn from(error: podrun_engine::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<podrun_image::Error> for CommandError {
    fn from(error: podrun_image::Error) -> Self {
        Self::Image(error)
    }
}

impl From<Faults> for CommandError {
    fn from(faults: Faults) -> Self {
        Self::Manifest(faults)
    }
}

fn image_code(error: &podrun_image::Error) -> Code {
    if error.is_not_found() {
        Code::NotFound
    } else if error.is_in_use() {
        Code::Conflict
    } else {
        Code::Failure
    }
}

/// Prints an error and returns its exit code.
pub(crate) fn error(error: &CommandError, json: bool) -> ExitCode {
    if json {
        eprintln!("{}", as_json(error));
    } else if let CommandError::Manifest(faults) = error {
        for fault in faults {
            line(&fault.to_string());
            hint(fault.hint.as_deref());
        }
    } else if let CommandError::Engine(podrun_engine::Error::Unplannable { faults }) = error {
        faults.iter().for_each(|fault| line(fault));
    } else {
        line(&error.message());
        hint(error.hint().as_deref());
    }
    error.code().into()
}

/// Prints all errors but the last, which is returned for the caller to report; none is a success.
pub(crate) fn all(mut errors: Vec<CommandError>, json: bool) -> CommandResult {
    let Some(last) = errors.pop() else { return Ok(Code::Ok) };
    for earlier in &errors {
        // The code is that of the last one.
        let _ = error(earlier, json);
    }
    Err(last)
}

/// Prints what clap says: help to standard output, a usage error to standard error.
pub(crate) fn usage(mut error: clap::Error) -> ExitCode {
    usage::advise(&mut error);
    // Nothing is left to do if the terminal is gone.
    let _ = error.print();
    if error.use_stderr() { Code::Usage.into() } else { Code::Ok.into() }
}

/// Prints a warning.
pub(crate) fn warning(text: &str) {
    let style = anstyle::AnsiColor::Yellow.on_default().bold();
    eprintln!("{style}warning:{style:#} {text}");
}

fn line(text: &str) {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    eprintln!("{style}error:{style:#} {text}");
}

/// Prints what helps to understand the line before.
pub(crate) fn hint(text: Option<&str>) {
    if let Some(text) = text {
        let style = anstyle::AnsiColor::Cyan.on_default();
        eprintln!("{style}  hint:{style:#} {text}");
    }
}

fn as_json(error: &CommandError) -> serde_json::Value {
    let faults: Vec<_> = match error {
        CommandError::Manifest(faults) => faults.iter().map(fault_json).collect(),
        _ => Vec::new(),
    };
    json!({ "error": {
        "message": error.message(),
        "hint": error.hint(),
        "exitCode": error.code().number(),
        "faults": faults,
    } })
}

fn fault_json(fault: &Fault) -> serde_json::Value {
    json!({
        "file": fault.file,
        "line": fault.line,
        "column": fault.column,
        "path": fault.path,
        "message": fault.message,
        "hint": fault.hint,
    })
}

/// Returns the first errno in the chain.
fn errno(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        if let Some(errno) = error.downcast_ref::<nix::errno::Errno>() {
            return Some(*errno as i32);
        }
        cause = error.source();
    }
    None
}
