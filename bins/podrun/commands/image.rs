//! `podrun image`: the images of this machine.

mod pull;

use std::collections::BTreeSet;

use anstream::{print, println};
use podrun_engine::Engine;
use podrun_image::{Image, ImportOptions, LoadOptions, Loaded, Reference, Skipped};
use serde_json::json;

use crate::cli::{Global, ImageArgs, ImageCommand, ImportArgs};
use crate::context;
use crate::exit_code::Code;
use crate::output::{bytes, now, table};
use crate::report::{self, CommandError, CommandResult, warning};

pub(crate) fn run(global: &Global, args: &ImageArgs) -> CommandResult {
    let engine = context::engine(global)?;
    match &args.command {
        ImageCommand::Pull(args) => return pull::run(&engine, args),
        ImageCommand::Load { path, name, replace } => {
            let mut options = LoadOptions::default();
            options.replace = *replace;
            options.name = name.as_deref().map(reference).transpose()?;
            for loaded in engine.images()?.load(path, &options)? {
                announce("Loaded", &loaded);
            }
        }
        ImageCommand::Import(args) => {
            let loaded =
                engine.images()?.import(&args.path, &reference(&args.name)?, &import_options(args)?)?;
            announce("Imported", &loaded);
        }
        ImageCommand::Ls { output, no_headers, quiet } => {
            let images = engine.images()?.list()?;
            if output.is_some() {
                println!("{:#}", json!(images.iter().map(document).collect::<Vec<_>>()));
            } else if *quiet {
                images.iter().for_each(|image| println!("{}", image.id));
            } else {
                print!("{}", rows(&images, !no_headers));
            }
        }
        ImageCommand::Rm { images, ignore_not_found } => {
            return remove(global, &engine, images, *ignore_not_found);
        }
    }
    Ok(Code::Ok)
}

fn reference(text: &str) -> Result<Reference, CommandError> {
    Reference::parse(text)
        .map_err(|error| CommandError::new(Code::Usage, format!("image name {text:?}: {error}")))
}

fn announce(verb: &str, loaded: &Loaded) {
    let names: Vec<String> = loaded.image.references.iter().map(Reference::familiar).collect();
    let name = if names.is_empty() { loaded.image.id.to_string() } else { names.join(", ") };
    println!("{verb} image: {name}");
    tell_skipped(&name, loaded.skipped);
}

fn tell_skipped(name: &str, skipped: Skipped) {
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

fn rows(images: &[Image], header: bool) -> String {
    let mut lines = Vec::new();
    for image in images {
        let id: String = image.id.hex().chars().take(12).collect();
        let created = image.created.as_deref().and_then(|t| t.split('T').next()).unwrap_or("<unknown>");
        let line = |repository: String, tag: String| {
            vec![
                repository,
                tag,
                id.clone(),
                created.to_owned(),
                bytes(image.size),
                bytes(image.unpacked_size),
            ]
        };
        if image.references.is_empty() {
            lines.push(line("<none>".to_owned(), "<none>".to_owned()));
        }
        for reference in &image.references {
            lines.push(line(reference.repository(), reference.tag().unwrap_or("<none>").to_owned()));
        }
    }
    let head = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "UNPACKED"];
    table(header.then_some(head.as_slice()), &lines)
}

fn document(image: &Image) -> serde_json::Value {
    json!({
        "id": image.id.to_string(),
        "manifest": image.manifest.to_string(),
        "pulled": image.pulled.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "names": image.references.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "size": image.size,
        "unpackedSize": image.unpacked_size,
        "created": image.created,
        "entrypoint": image.config.entrypoint,
        "cmd": image.config.cmd,
        "user": image.config.user,
        "architecture": image.config.architecture,
        "layers": image.layers.len(),
    })
}

fn remove(global: &Global, engine: &Engine, images: &[String], ignore_not_found: bool) -> CommandResult {
    let used = used_images(engine)?;
    let store = engine.images()?;
    let mut failed: Option<CommandError> = None;
    for what in images {
        match store.remove(what, |image| used.iter().any(|id| image.has_image_id(id))) {
            Ok(removed) => {
                removed.references.iter().for_each(|name| println!("Untagged: {}", name.familiar()));
                if let Some(id) = removed.image {
                    println!("Deleted: {id}");
                }
            }
            Err(error) if ignore_not_found && error.is_not_found() => {}
            Err(error) => {
                if let Some(earlier) = failed.replace(error.into()) {
                    report::error(&earlier, global.json_errors());
                }
            }
        }
    }
    failed.map_or(Ok(Code::Ok), Err)
}

/// Returns the ids of the images of Pods that have not ended.
fn used_images(engine: &Engine) -> Result<BTreeSet<String>, CommandError> {
    let views = context::pods(engine)?.into_iter();
    let live = views.filter(|view| view.supervised || !view.published.status.phase.is_terminal());
    Ok(live
        .flat_map(|view| {
            let status = view.published.status;
            status.init_container_statuses.into_iter().chain(status.container_statuses).map(|c| c.image_id)
        })
        .collect())
}
