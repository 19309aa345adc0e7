//! `podrun top`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::FilterArgs;
use crate::output;

#[derive(Debug, Args)]
#[command(
    after_help = "CPU(cores) is what was used in --window, in thousandths of a core; MEMORY(bytes) what cannot be taken back at
once, as Kubernetes counts it, in MiB. Wide tells more: processes, in how much of --window containers were held
to their CPU limit, how many processes were killed for want of memory, and in how much of the last ten seconds
something waited for CPU, memory or disk. A figure that this host does not tell is <unknown>.

Examples:
  podrun top                         what the Pods of the namespace use
  podrun top pod web --containers    each container of one Pod
  podrun top pod -A --sort-by=cpu    who uses the most"
)]
pub(crate) struct TopArgs {
    /// `pod NAME`, `pod/NAME` or just names; none shows all Pods of the namespace that run.
    #[arg(value_name = "pod NAME")]
    pub(crate) what: Vec<String>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Pods of all namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// A row for each container.
    #[arg(long)]
    pub(crate) containers: bool,
    /// The most first.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) sort_by: Option<SortBy>,
    /// Add the sum of all rows.
    #[arg(long)]
    pub(crate) sum: bool,
    /// Print no header.
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// wide, or json or yaml: the documents of a cluster's metrics API.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<TopFormat>,
    /// How long to look at the CPU.
    #[arg(long, value_parser = window, default_value = "1s", value_name = "DURATION")]
    pub(crate) window: Duration,
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    Cpu,
    Memory,
}

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopFormat {
    Wide,
    Json,
    Yaml,
}

fn window(text: &str) -> Result<Duration, String> {
    let window = output::duration(text)?;
    if window.is_zero() { Err("a rate needs some time".to_owned()) } else { Ok(window) }
}
