//! What is said about a wrong command line: where kubectl and podman have a word that podrun has not, its own.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// Commands of others, and what podrun has instead.
const COMMANDS: [(&[&str], &str); 20] = [
    (
        &["apply", "create", "replace"],
        "podrun run -d FILE makes the Pods of a manifest; podrun delete -f FILE removes them",
    ),
    (&["play", "kube"], "podrun run FILE runs the Pods of a manifest"),
    (&["ps", "ls", "list", "pod", "pods"], "podrun get pods"),
    (&["rm", "stop", "kill", "down", "remove"], "podrun delete pod NAME"),
    (&["start", "restart"], "a Pod has one life: podrun delete pod NAME, then podrun run -d FILE"),
    (&["inspect"], "podrun get pod NAME -o yaml, podrun describe pod NAME, podrun image inspect IMAGE"),
    (
        &["attach"],
        "podrun logs -f NAME follows a container, podrun exec -it NAME -- sh runs a command in one",
    ),
    (&["stats"], "podrun top shows what Pods use"),
    (&["debug"], "podrun exec -it NAME -- sh"),
    (&["explain"], "SUPPORT.md lists every field of a Pod and what podrun does with it"),
    (
        &["edit", "patch", "scale", "set", "label", "rollout", "autoscale"],
        "a Pod stays as it was made, but for podrun annotate: podrun delete pod NAME, then podrun run -d FILE",
    ),
    (&["validate", "diff"], "podrun plan FILE reads a manifest strictly and prints what would be done"),
    (
        &["info", "system", "cluster-info", "api-resources", "config"],
        "podrun doctor tells what this machine can do",
    ),
    (&["images"], "podrun image ls"),
    (&["pull"], "podrun image pull IMAGE"),
    (&["load", "import", "save", "tag"], "podrun image load, import, save and tag"),
    (&["rmi"], "podrun image rm IMAGE"),
    (&["prune"], "podrun image prune for images, podrun gc for what belongs to no Pod"),
    (
        &["build", "push", "commit"],
        "podrun makes no images; podrun image load takes those that others have made",
    ),
    (&["login"], "credentials are read from /etc/podrun/auth.json, in the format of podman login"),
];

/// Puts the right tip into an error, and takes wrong ones out of it.
pub(crate) fn advise(error: &mut Error) {
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let Some(ContextValue::String(command)) = error.get(ContextKind::InvalidSubcommand) else {
                return;
            };
            if let Some(tip) = instead_of(command) {
                error.remove(ContextKind::SuggestedSubcommand);
                give(error, tip);
            }
        }
        ErrorKind::UnknownArgument => {
            // That `-- -x` passes -x as a value helps nobody here: no name begins so.
            error.remove(ContextKind::Suggested);
            let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return };
            let is_run =
                error.get(ContextKind::Usage).is_some_and(|usage| usage.to_string().contains("podrun run"));
            let of_an_image = ["--image", "-i", "-t", "--name", "-e", "--env", "-p", "-v", "--command"];
            if is_run && of_an_image.contains(&argument.as_str()) {
                give(error, "podrun run takes a manifest of Pods, not an image and options");
            }
        }
        _ => {}
    }
}

fn instead_of(command: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|(names, _)| names.contains(&command)).map(|(_, tip)| *tip)
}

fn give(error: &mut Error, tip: &'static str) {
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::Cli;

    fn advice(line: &str) -> String {
        let mut error = Cli::try_parse_from(std::iter::once("podrun").chain(line.split(' '))).unwrap_err();
        advise(&mut error);
        error.to_string()
    }

    #[test]
    fn commands_of_others_lead_to_our_own() {
        let apply = advice("apply -f web.yaml");
        assert!(apply.contains("unrecognized subcommand 'apply'"), "{apply}");
        assert!(apply.contains("tip: podrun run -d FILE"), "{apply}");
        assert!(!apply.contains("replay"), "{apply}");
        assert!(advice("ps").contains("tip: podrun get pods"));
        assert!(advice("evnts").contains("'events'"), "what is near is still told");
    }

    #[test]
    fn arguments_of_others_are_not_taken_for_values() {
        let run = advice("run web --image=nginx");
        assert!(run.contains("tip: podrun run takes a manifest"), "{run}");
        let get = advice("get pods --bogus");
        assert!(get.contains("unexpected argument '--bogus'") && !get.contains("tip:"), "{get}");
        assert!(advice("get pods --selectr=a").contains("'--selector'"), "what is near is still told");
    }

    #[test]
    fn no_command_of_our_own_is_called_somebody_elses() {
        let own = Cli::command();
        for (name, _) in COMMANDS.iter().flat_map(|(names, tip)| names.iter().map(move |name| (name, tip))) {
            assert!(own.find_subcommand(name).is_none(), "{name}");
        }
    }
}
