//! `podrun image ls` and `inspect`.

use std::collections::BTreeMap;

use podrun_engine::Engine;
use podrun_image::{Image, Images, Reference, Store};
use podrun_spec::to_yaml;
use serde_json::{Value, json};

use super::users;
use crate::cli::{InspectArgs, ListArgs, OutputFormat};
use crate::exit_code::Code;
use crate::jsonpath;
use crate::output::{bytes, table};
use crate::print::{print, println};
use crate::report::{self, CommandError, CommandResult, warning};

pub(super) fn list(engine: &Engine, args: &ListArgs) -> CommandResult {
    let store = engine.images()?;
    let Images { mut images, damaged, .. } = store.list()?;
    for one in damaged {
        let names: Vec<String> = one.references.iter().map(Reference::familiar).collect();
        let name = if names.is_empty() { one.manifest.to_string() } else { names.join(", ") };
        let cause = report::chain(&one.error);
        warning(&format!("image {name} is damaged: {cause}: `podrun image check` repairs or removes it"));
    }
    if !args.images.is_empty() {
        images = chosen(&store, images, &args.images)?;
    }
    if args.quiet {
        images.iter().for_each(|image| println!("{}", image.id));
        return Ok(Code::Ok);
    }
    let documents = || Value::from(images.iter().map(summary).collect::<Vec<_>>());
    match &args.output {
        None => print!("{}", Rows { args, users: None }.of(&images)),
        Some(OutputFormat::Wide) => {
            let users = used_by(engine, &store)?;
            print!("{}", Rows { args, users: Some(users) }.of(&images));
        }
        Some(OutputFormat::Name) => {
            let names = images.iter().flat_map(|image| &image.references);
            names.for_each(|name| println!("image/{}", name.familiar()));
        }
        Some(format) => print_document(format, &documents())?,
    }
    Ok(Code::Ok)
}

/// Returns the images that are meant: by name or id, or all of a repository.
fn chosen(store: &Store, images: Vec<Image>, what: &[String]) -> Result<Vec<Image>, CommandError> {
    let mut wanted = Vec::new();
    for text in what {
        let repository =
            Reference::parse(text).ok().filter(|_| !text.contains('@')).map(|one| one.repository());
        let found = store.find(text)?.map(|image| image.manifest);
        wanted.push((found, repository.filter(|_| found.is_none() && !has_tag(text))));
    }
    let is_wanted = |image: &Image| {
        wanted.iter().any(|(manifest, repository)| {
            let in_repository = |name: &Reference| Some(name.repository()) == *repository;
            *manifest == Some(image.manifest) || image.references.iter().any(in_repository)
        })
    };
    Ok(images.into_iter().filter(is_wanted).collect())
}

fn has_tag(text: &str) -> bool {
    text.rsplit('/').next().is_some_and(|name| name.contains(':'))
}

pub(super) fn inspect(engine: &Engine, args: &InspectArgs) -> CommandResult {
    let store = engine.images()?;
    let users = used_by(engine, &store)?;
    let mut found = Vec::new();
    for what in &args.images {
        let image = store.find(what)?.ok_or_else(|| podrun_image::Error::NoSuchImage(what.clone()))?;
        let used_by = users.get(&image.manifest.to_string()).cloned().unwrap_or_default();
        found.push(details(&image, &used_by));
    }
    let document = if found.len() == 1 { found.remove(0) } else { Value::from(found) };
    match &args.output {
        OutputFormat::Wide | OutputFormat::Name => {
            return Err(CommandError::new(Code::Usage, "inspect prints json, yaml or jsonpath=TEMPLATE"));
        }
        format => print_document(format, &document)?,
    }
    Ok(Code::Ok)
}

fn print_document(format: &OutputFormat, document: &Value) -> Result<(), CommandError> {
    match format {
        OutputFormat::Yaml => print!("{}", to_yaml(document)),
        OutputFormat::JsonPath(template) => {
            let text = jsonpath::render(template, document)
                .map_err(|message| CommandError::new(Code::Usage, format!("jsonpath: {message}")))?;
            print!("{text}");
        }
        _ => println!("{document:#}"),
    }
    Ok(())
}

/// Returns who uses each image, by the digest of its manifest.
fn used_by(engine: &Engine, store: &Store) -> Result<BTreeMap<String, Vec<String>>, CommandError> {
    let pods = users(engine)?;
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for lease in store.leases()? {
        let user = pods.get(&lease.user).cloned().unwrap_or(lease.user);
        for manifest in lease.manifests {
            users.entry(manifest.to_string()).or_default().push(user.clone());
        }
    }
    Ok(users)
}

/// How the table is made.
struct Rows<'a> {
    args: &'a ListArgs,
    /// For the wide table.
    users: Option<BTreeMap<String, Vec<String>>>,
}

impl Rows<'_> {
    fn of(&self, images: &[Image]) -> String {
        let mut head = vec!["REPOSITORY", "TAG"];
        let digests = self.args.digests || self.users.is_some();
        if digests {
            head.push("DIGEST");
        }
        head.extend(["IMAGE ID", "CREATED", "SIZE", "UNPACKED"]);
        if self.users.is_some() {
            head.extend(["PLATFORM", "LAYERS", "USED BY"]);
        }
        let mut lines = Vec::new();
        for image in images {
            let mut names: Vec<(String, String)> = image
                .references
                .iter()
                .map(|name| (name.repository(), name.tag().unwrap_or("<none>").to_owned()))
                .collect();
            if names.is_empty() {
                let from = image.pulled.first().map_or_else(|| "<none>".to_owned(), Reference::repository);
                names.push((from, "<none>".to_owned()));
            }
            for (repository, tag) in names {
                let mut line = vec![repository, tag];
                if digests {
                    line.push(if self.args.no_trunc {
                        image.manifest.to_string()
                    } else {
                        format!("sha256:{}", short(&image.manifest.hex()))
                    });
                }
                line.push(if self.args.no_trunc { image.id.to_string() } else { short(&image.id.hex()) });
                let day = image.created.as_deref().and_then(|time| time.split('T').next());
                line.push(day.unwrap_or("<unknown>").to_owned());
                line.extend([bytes(image.size), bytes(image.unpacked_size)]);
                if let Some(users) = &self.users {
                    let used_by = users.get(&image.manifest.to_string());
                    line.extend([
                        format!("{}/{}", image.config.os, image.config.architecture),
                        image.diff_ids().len().to_string(),
                        used_by.map_or_else(|| "<none>".to_owned(), |users| users.join(",")),
                    ]);
                }
                lines.push(line);
            }
        }
        table((!self.args.no_headers).then_some(head.as_slice()), &lines)
    }
}

fn short(hex: &str) -> String {
    hex.chars().take(12).collect()
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// What `ls` tells of an image.
fn summary(image: &Image) -> Value {
    json!({
        "id": image.id.to_string(),
        "manifest": image.manifest.to_string(),
        "pulled": texts(&image.pulled),
        "names": texts(&image.references),
        "size": image.size,
        "unpackedSize": image.unpacked_size,
        "created": image.created,
        "entrypoint": image.config.entrypoint,
        "cmd": image.config.cmd,
        "user": image.config.user,
        "architecture": image.config.architecture,
        "layers": image.diff_ids().len(),
    })
}

/// Everything about an image.
fn details(image: &Image, used_by: &[String]) -> Value {
    let config = &image.config;
    json!({
        "id": image.id.to_string(),
        "manifest": image.manifest.to_string(),
        "names": texts(&image.references),
        "pulled": texts(&image.pulled),
        "created": image.created,
        "os": config.os,
        "architecture": config.architecture,
        "size": image.size,
        "unpackedSize": image.unpacked_size,
        "config": {
            "entrypoint": config.entrypoint,
            "cmd": config.cmd,
            "env": config.env,
            "user": config.user,
            "workingDir": config.working_dir,
            "stopSignal": config.stop_signal,
            "exposedPorts": config.exposed_ports,
            "volumes": config.volumes,
            "labels": config.labels,
        },
        "diffIDs": texts(image.diff_ids()),
        "layers": image.layers.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "usedBy": used_by,
    })
}

#[cfg(test)]
mod tests {
    use super::has_tag;

    #[test]
    fn a_port_is_no_tag() {
        for (text, tag) in
            [("busybox", false), ("busybox:1", true), ("host:5000/x", false), ("host:5000/x:1", true)]
        {
            assert_eq!(has_tag(text), tag, "{text}");
        }
    }
}
