//! `podrun cp`: files to and from a container that runs.

mod tree;

use std::path::Path;

use nix::unistd::{Gid, Uid};
use podrun_engine::{Engine, PodView};

use self::tree::{Copier, CopyError, Side};
use crate::cli::{CpArgs, FileSpec, Global};
use crate::context;
use crate::exit_code::Code;
use crate::report::{self, CommandError, CommandResult};

pub(crate) fn run(global: &Global, args: &CpArgs) -> CommandResult {
    let engine = context::engine(global)?;
    let find = |namespace: &Option<String>, pod: &str| -> Result<(PodView, String), CommandError> {
        let view = engine.pod(namespace.as_deref().unwrap_or(global.namespace()), pod)?;
        let container = context::container(&view, args.container.as_deref(), false)?;
        Ok((view, container))
    };
    let (here, copier) = (Side::here(), Copier::default());
    let skipped = match (&args.source, &args.target) {
        (FileSpec::InPod { namespace, pod, path }, FileSpec::Here(to)) => {
            let (view, container) = find(namespace, pod)?;
            let there = side(&engine, &view, &container)?;
            copier.copy((&there, path), (&here, to))
        }
        (FileSpec::Here(from), FileSpec::InPod { namespace, pod, path }) => {
            let (view, container) = find(namespace, pod)?;
            let there = side(&engine, &view, &container)?;
            let copier = Copier { owner: user_of(&view, &container), links: true };
            copier.copy((&here, from), (&there, path))
        }
        (FileSpec::Here(_), FileSpec::Here(_)) => {
            return Err(
                usage("neither of both is in a pod").with_hint("podrun cp web:/etc/hosts . names one")
            );
        }
        (FileSpec::InPod { .. }, FileSpec::InPod { .. }) => {
            return Err(usage("one of both must be a path of this machine"));
        }
    };
    for (path, kind) in skipped.map_err(failed)? {
        report::warning(&format!("skipping {kind}: {}", path.display()));
    }
    Ok(Code::Ok)
}

fn side(engine: &Engine, view: &PodView, container: &str) -> Result<Side, CommandError> {
    match engine.container_root(view, container)? {
        Some(root) => Ok(Side::in_container(root)),
        None => Err(CommandError::new(Code::Failure, format!("container {container} is not running"))),
    }
}

/// Returns whom files in a container belong to: the user of its first process.
fn user_of(view: &PodView, container: &str) -> Option<(Uid, Gid)> {
    let status = &view.published.status;
    let mut statuses = status.container_statuses.iter().chain(&status.init_container_statuses);
    let user = statuses.find(|status| status.name == container)?.user.as_ref()?;
    Some((Uid::from_raw(user.uid), Gid::from_raw(user.gid)))
}

fn usage(message: &str) -> CommandError {
    CommandError::new(Code::Usage, message)
}

fn failed(CopyError { verb, path, errno }: CopyError) -> CommandError {
    CommandError::io(verb, Path::new(&path), &errno.into())
}
