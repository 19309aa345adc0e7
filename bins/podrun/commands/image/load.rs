//! `podrun image load`, `import` and `tag`.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use podrun_engine::Engine;
use podrun_image::{ImportOptions, LoadOptions, Loaded, Reference, Skipped};

use super::{parse_platform, reference};
use crate::cli::{ImportArgs, LoadArgs, TagArgs};
use crate::exit_code::Code;
use crate::output::now;
use crate::print::println;
use crate::report::{CommandError, CommandResult, warning};

pub(super) fn load(engine: &Engine, args: &LoadArgs) -> CommandResult {
    let mut options = LoadOptions::default();
    options.replace = args.replace;
    options.name = args.name.as_deref().map(reference).transpose()?;
    if let Some(platform) = &args.platform {
        options.platform = parse_platform(platform)?;
    }
    let path = match args.path.as_deref().or(args.input.as_deref()) {
        None if io::stdin().is_terminal() => {
            return Err(CommandError::new(
                Code::Usage,
                "no archive is named, and none comes from a terminal",
            )
            .with_hint("podrun image load FILE, or podrun image load < FILE"));
        }
        path => source(path.unwrap_or(Path::new("-")))?,
    };
    for loaded in engine.images()?.load(path, &options)? {
        announce("Loaded", &loaded, args.quiet);
    }
    Ok(Code::Ok)
}

pub(super) fn import(engine: &Engine, args: &ImportArgs) -> CommandResult {
    let path = source(&args.path)?;
    let loaded = engine.images()?.import(path, &reference(&args.name)?, &import_options(args)?)?;
    announce("Imported", &loaded, false);
    Ok(Code::Ok)
}

pub(super) fn tag(engine: &Engine, args: &TagArgs) -> CommandResult {
    let store = engine.images()?;
    let names = args.names.iter().map(|name| reference(name)).collect::<Result<Vec<_>, _>>()?;
    for name in names {
        store.tag(&args.image, &name, args.replace)?;
        println!("Tagged: {}", name.familiar());
    }
    Ok(Code::Ok)
}

/// Returns the path of what is read: `-` is standard input. What is not there is told as such before the store is asked.
fn source(path: &Path) -> Result<&Path, CommandError> {
    if path == Path::new("-") {
        return Ok(Path::new("/proc/self/fd/0"));
    }
    std::fs::metadata(path).map(|_| path).map_err(|error| CommandError::io("open", path, &error))
}

fn announce(verb: &str, loaded: &Loaded, quiet: bool) {
    let names: Vec<String> = loaded.image.references.iter().map(Reference::familiar).collect();
    let name = if names.is_empty() { loaded.image.id.to_string() } else { names.join(", ") };
    if quiet {
        println!("{}", loaded.image.id);
    } else {
        println!("{verb} image: {name}");
    }
    tell_skipped(&name, loaded.skipped);
}

pub(super) fn tell_skipped(name: &str, skipped: Skipped) {
    if skipped.devices > 0 || skipped.xattrs > 0 {
        let (devices, xattrs) = (skipped.devices, skipped.xattrs);
        warning(&format!("{name}: {devices} device nodes and {xattrs} extended attributes were left out"));
    }
}

fn import_options(args: &ImportArgs) -> Result<ImportOptions, CommandError> {
    let mut options = ImportOptions::default();
    options.replace = args.replace;
    options.created = Some(now().to_string());
    options.config.entrypoint = words("--entrypoint", args.entrypoint.as_deref())?;
    options.config.cmd = words("--cmd", args.cmd.as_deref())?;
    options.config.env.clone_from(&args.env);
    options.config.user = args.user.clone().unwrap_or_default();
    options.config.working_dir = args.workdir.clone().unwrap_or_default();
    options.config.stop_signal.clone_from(&args.stop_signal);
    Ok(options)
}

/// Reads a JSON list of words, or one word.
fn words(flag: &str, text: Option<&str>) -> Result<Vec<String>, CommandError> {
    match text {
        None => Ok(Vec::new()),
        Some(text) if text.trim_start().starts_with('[') => serde_json::from_str(text).map_err(|error| {
            CommandError::new(Code::Usage, format!("{flag}: expected a JSON list of words: {error}"))
        }),
        Some(text) => Ok(vec![text.to_owned()]),
    }
}
