//! `podrun image`: the images of this machine.

mod check;
mod list;
mod load;
mod pull;
mod remove;
mod save;

use std::collections::BTreeMap;

use podrun_engine::Engine;
use podrun_image::{Platform, Reference};

use crate::cli::{Global, ImageArgs, ImageCommand};
use crate::context;
use crate::exit_code::Code;
use crate::report::{CommandError, CommandResult};

pub(crate) fn run(global: &Global, args: &ImageArgs) -> CommandResult {
    let engine = context::engine(global)?;
    match &args.command {
        ImageCommand::Pull(args) => pull::run(&engine, args),
        ImageCommand::Load(args) => load::load(&engine, args),
        ImageCommand::Import(args) => load::import(&engine, args),
        ImageCommand::Save(args) => save::run(&engine, args),
        ImageCommand::Ls(args) => list::list(&engine, args),
        ImageCommand::Inspect(args) => list::inspect(&engine, args),
        ImageCommand::Tag(args) => load::tag(&engine, args),
        ImageCommand::Rm(args) => remove::remove(global, &engine, args),
        ImageCommand::Prune(args) => remove::prune(&engine, args),
        ImageCommand::Check(args) => check::run(&engine, args),
    }
}

fn reference(text: &str) -> Result<Reference, CommandError> {
    Reference::parse(text)
        .map_err(|error| CommandError::new(Code::Usage, format!("image name {text:?}: {error}")))
}

fn parse_platform(text: &str) -> Result<Platform, CommandError> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [os, architecture] if !os.is_empty() && !architecture.is_empty() => {
            Ok(Platform { os: (*os).to_owned(), architecture: (*architecture).to_owned() })
        }
        _ => Err(CommandError::new(Code::Usage, format!("--platform {text:?}: expected OS/ARCHITECTURE"))),
    }
}

/// Returns the names of Pods by the names under which they lease images.
fn users(engine: &Engine) -> Result<BTreeMap<String, String>, CommandError> {
    let named = |view: podrun_engine::PodView| {
        let meta = view.pod.meta;
        (podrun_engine::lease_of(&meta.uid), format!("{}/{}", meta.namespace, meta.name))
    };
    Ok(context::pods(engine)?.into_iter().map(named).collect())
}
