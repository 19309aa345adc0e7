//! `$(VAR)` references.

use crate::model::{EnvSource, EnvVar};

/// Replaces `$(NAME)` by what `lookup` returns for the name.
///
/// `$$` becomes `$`, so that `$$(NAME)` comes out as `$(NAME)`. A name that is not known stays as it was written, and
/// so do an unclosed `$(` and a `$` before anything else. What was put in is not expanded again.
///
/// ```
/// let lookup = |name: &str| (name == "USER").then(|| "jo".to_owned());
/// assert_eq!(podrun_spec::env::expand("$(USER) $(OTHER) $$(USER) $USER", lookup), "jo $(OTHER) $(USER) $USER");
/// ```
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match reference {
            Some((name, after)) => {
                if let Some(value) = lookup(name) {
                    out.push_str(&value);
                } else {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

/// Returns the value of a variable of an assembled environment.
fn value_of(env: &[(String, String)], name: &str) -> Option<String> {
    env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

/// What a container runs: the program with its arguments.
pub type Argv = Vec<String>;

/// Returns the command line of a container, expanded with its environment.
///
/// `command` replaces the image's entrypoint, `args` its arguments; a `command` alone drops the image's arguments. What
/// comes from the image is taken as it is. Empty if nobody says what to run.
///
/// ```
/// use podrun_spec::env::argv;
///
/// let image = (["/entry".to_owned()], ["-v".to_owned()]);
/// assert_eq!(argv(&[], &["x".into()], &image.0, &image.1, &[]), ["/entry", "x"]);
/// assert_eq!(argv(&["/own".into()], &[], &image.0, &image.1, &[]), ["/own"]);
/// ```
pub fn argv(
    command: &[String],
    args: &[String],
    image_entrypoint: &[String],
    image_cmd: &[String],
    env: &[(String, String)],
) -> Argv {
    let expanded = |list: &[String]| {
        list.iter().map(|text| expand(text, |name| value_of(env, name))).collect::<Vec<_>>()
    };
    match (command.is_empty(), args.is_empty()) {
        (true, true) => [image_entrypoint, image_cmd].concat(),
        (true, false) => [image_entrypoint.to_vec(), expanded(args)].concat(),
        (false, _) => [expanded(command), expanded(args)].concat(),
    }
}

/// Returns the command of an exec probe, expanded with the environment that was written.
///
/// A kubelet sees no more of the environment here than the text of `env[].value`, which it takes as it is: references in
/// it are not expanded, a variable that comes from elsewhere (`valueFrom`) is empty, and one of `envFrom` is not known, so
/// that its reference stays. Commands of hooks are not expanded at all.
///
/// ```
/// use podrun_spec::env::expand_probe_command;
/// use podrun_spec::model::{EnvSource, EnvVar, FieldPath};
///
/// let env = [
///     EnvVar { name: "PORT".into(), source: EnvSource::Value("80".into()) },
///     EnvVar { name: "NAME".into(), source: EnvSource::Field(FieldPath::Name) },
/// ];
/// let command = ["check".into(), "$(PORT)/$(NAME)/$(OTHER)".into()];
/// assert_eq!(expand_probe_command(&command, &env), ["check", "80//$(OTHER)"]);
/// ```
pub fn expand_probe_command(command: &[String], env: &[EnvVar]) -> Argv {
    let value = |name: &str| {
        // The last of several counts, also for references before it.
        let variable = env.iter().rev().find(|variable| variable.name == name)?;
        match &variable.source {
            EnvSource::Value(text) => Some(text.clone()),
            _ => Some(String::new()),
        }
    };
    command.iter().map(|text| expand(text, value)).collect()
}

/// Why a `subPathExpr` leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubPathFault {
    /// It names variables that are unset or empty.
    #[error("missing value for {expression:?}")]
    Missing {
        /// What was written.
        expression: String,
    },
    /// It leads out of the volume.
    #[error("subPath {path:?} must be a relative path without '..'")]
    Outside {
        /// What came out.
        path: String,
    },
}

/// Returns the path that a `subPathExpr` stands for.
///
/// # Errors
///
/// [`SubPathFault`] where a variable is unset or empty, or the result is absolute or has a `..`.
pub fn expand_sub_path(expression: &str, env: &[(String, String)]) -> Result<String, SubPathFault> {
    let missing = std::cell::Cell::new(false);
    let path = expand(expression, |name| {
        let value = value_of(env, name).filter(|value| !value.is_empty());
        missing.set(missing.get() || value.is_none());
        value
    });
    if missing.get() {
        return Err(SubPathFault::Missing { expression: expression.to_owned() });
    }
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(SubPathFault::Outside { path });
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Vec<(String, String)> {
        [("A", "1"), ("B", "$(A)"), ("EMPTY", ""), ("UP", "../x"), ("S P", "space")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    #[test]
    fn references_are_replaced_once_and_escapes_kept() {
        let env = env();
        let table = [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(A)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$", "$$"),
            ("$(MISSING)", "$(MISSING)"),
            ("$(A", "$(A"),
            ("$A ${A}", "$A ${A}"),
            ("$", "$"),
            ("a$", "a$"),
            ("$(S P)", "space"),
            ("$()", "$()"),
            ("$($(A))", "$($(A))"),
            ("ä$(A)ß", "ä1ß"),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text, |name| value_of(&env, name)), expected, "{text:?}");
        }
    }

    #[test]
    fn command_and_args_replace_what_the_image_says() {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let table = [
            ("", "", "entry $(A) cmd $(A)"),
            ("", "args $(A)", "entry $(A) args 1"),
            ("own $(A)", "", "own 1"),
            ("own", "args", "own args"),
        ];
        for (command, args, expected) in table {
            let got = argv(&list(command), &list(args), &list("entry $(A)"), &list("cmd $(A)"), &env());
            assert_eq!(got, list(expected), "{command:?} {args:?}");
        }
    }

    #[test]
    fn commands_of_probes_see_the_text_of_variables() {
        let value = |name: &str, text: &str| EnvVar {
            name: name.to_owned(),
            source: EnvSource::Value(text.to_owned()),
        };
        let env = [value("A", "1"), value("B", "$(A)"), value("A", "2")];
        let command = ["$(A)", "$(B)", "$$(A)"].map(str::to_owned);
        assert_eq!(expand_probe_command(&command, &env), ["2", "$(A)", "$(A)"]);
    }

    #[test]
    fn sub_paths_need_all_variables_and_stay_inside() {
        let ok = |text: &str| expand_sub_path(text, &env());
        assert_eq!(ok("logs/$(A)"), Ok("logs/1".to_owned()));
        assert_eq!(ok("$$(A)"), Ok("$(A)".to_owned()));
        for text in ["$(MISSING)", "$(EMPTY)"] {
            assert!(matches!(ok(text), Err(SubPathFault::Missing { .. })), "{text}");
        }
        for text in ["$(UP)", "/$(A)", "a/../b"] {
            assert!(matches!(ok(text), Err(SubPathFault::Outside { .. })), "{text}");
        }
    }
}
