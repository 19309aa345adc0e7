//! `podrun image …`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use podrun_image::limits::MAX_PARALLEL;

use super::{ListFormat, OutputFormat, output_format};
use crate::output;

/// How images are printed; they have no columns to choose from.
fn document_format(text: &str) -> Result<OutputFormat, String> {
    match output_format(text) {
        Ok(format) if !matches!(format, OutputFormat::Custom(_)) => Ok(format),
        _ => Err("expected wide, json, yaml, name or jsonpath=TEMPLATE".to_owned()),
    }
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Pull images from registries.
    ///
    /// An image that is here already is asked for again, and nothing is transferred if the registry has nothing newer.
    Pull(PullArgs),
    /// Take the images of an OCI layout or a docker-archive into the store, directory or tar.
    Load(LoadArgs),
    /// Write images as an archive or layout that other programs read.
    Save(SaveArgs),
    /// Make an image from a root file system, a tar archive or a directory.
    Import(ImportArgs),
    /// List images.
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Show everything about images.
    Inspect(InspectArgs),
    /// Give an image another name.
    Tag(TagArgs),
    /// Remove images by name or id.
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    /// Remove images that nobody uses, and what is left of broken-off loads and pulls.
    Prune(PruneArgs),
    /// Verify every blob and every unpacked layer, and repair what can be repaired.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Names, such as nginx:1.27 or registry.example.com/team/app@sha256:…
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// How progress is told on standard error.
    #[arg(long, value_enum, default_value_t = ProgressFormat::Auto, value_name = "FORMAT")]
    pub(crate) progress: ProgressFormat,
    /// Print the digest alone, and no progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The platform to choose where there are several: OS/ARCHITECTURE.
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// A file with credentials, as `podman login` or `docker login` write it.
    #[arg(long, env = "REGISTRY_AUTH_FILE", value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Layers of one image that are fetched at the same time, 1 to 8; each takes up to 3 MiB of memory besides its decoder.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_PARALLEL)))]
    pub(crate) parallel: u8,
}

/// How the progress of a pull is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressFormat {
    /// Bars on a terminal, lines elsewhere.
    Auto,
    /// A line for each step.
    Plain,
    /// A JSON object for each step.
    Json,
    /// Not at all.
    None,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The archive or directory; - is standard input, and so is nothing unless it is a terminal.
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
    /// The same, as podman and docker have it.
    #[arg(short, long, value_name = "PATH", conflicts_with = "path")]
    pub(crate) input: Option<PathBuf>,
    /// Name for the image, in place of those in the archive.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The platform to choose where there are several: OS/ARCHITECTURE.
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Take names from other images that have them.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Print only ids.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Names or ids. An image that is given by its id is written without a name.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Where to write to; standard output by default.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// How to write.
    #[arg(long, value_enum, default_value_t = SaveFormat::DockerArchive, value_name = "FORMAT")]
    pub(crate) format: SaveFormat,
}

/// How images are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveFormat {
    /// What `docker save` writes; all programs read it.
    DockerArchive,
    /// An OCI image layout in a tar file; keeps digests.
    OciArchive,
    /// An OCI image layout in a directory, which is made.
    OciDir,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The root file system: a tar archive (plain, gzip, zstd) or a directory; - is standard input.
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// Name of the image.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Entrypoint: a JSON list, or one program.
    #[arg(long, value_name = "LIST")]
    pub(crate) entrypoint: Option<String>,
    /// Arguments: a JSON list, or one argument.
    #[arg(long, value_name = "LIST")]
    pub(crate) cmd: Option<String>,
    /// Environment.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// User.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Working directory.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Stop signal.
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Take the name from another image that has it.
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only these, by name or id, or all of a repository.
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// wide, json, yaml, name or jsonpath=TEMPLATE.
    #[arg(short, long, value_parser = document_format, value_name = "FORMAT")]
    pub(crate) output: Option<OutputFormat>,
    /// Show the digests of manifests.
    #[arg(long)]
    pub(crate) digests: bool,
    /// Print ids and digests in full.
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Print no header.
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// Print only ids.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Names or ids.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// json, yaml or jsonpath=TEMPLATE.
    #[arg(short, long, value_parser = document_format, default_value = "json", value_name = "FORMAT")]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// The image, by name or id.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// The other names.
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Take the names from other images that have them.
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Names or ids. An image goes with its last name, or with all of them if it is given by its id.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Remove images also from under Pods that use them: the names go now, the files when the Pods have ended.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// It is fine if an image is not there.
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "With --disk-high nothing is removed while the disk is less full; otherwise images that were used
longest ago go first, until --disk-low is reached. 85 and 80 are a kubelet's defaults."
)]
pub(crate) struct PruneArgs {
    /// Nothing is asked before.
    #[arg(short, long, hide = true)]
    force: bool,
    /// All images that no Pod uses, not just those without a name.
    #[arg(short, long, conflicts_with = "disk_high")]
    pub(crate) all: bool,
    /// Only images that have not been used for so long: 30m, 24h, 7d.
    #[arg(long, value_parser = output::duration, value_name = "DURATION", conflicts_with = "disk_high")]
    pub(crate) unused_for: Option<Duration>,
    /// Make room if at least so many percent of the disk are used.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100), value_name = "PERCENT")]
    pub(crate) disk_high: Option<u8>,
    /// Then remove images until no more than this is used.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100), default_value_t = 80, requires = "disk_high", value_name = "PERCENT")]
    pub(crate) disk_low: u8,
    /// Then leave images that came in the last while.
    #[arg(long, value_parser = output::duration, default_value = "2m", requires = "disk_high", value_name = "DURATION")]
    pub(crate) min_age: Duration,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 when everything is as it should be, or could be repaired; 1 when something is lost."
)]
pub(crate) struct CheckArgs {
    /// Change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Verify blobs only, which reads each once, and not the unpacked files.
    #[arg(long)]
    pub(crate) quick: bool,
    /// json, or nothing for text.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<ListFormat>,
}
