//! The commands that look at Pods: lists, descriptions, events and logs.

use clap::{Args, ValueEnum};

use crate::commands::get::CustomColumns;
use crate::fields::Fields;
use crate::output;
use crate::selection::Filter;
use crate::selector::Selector;

/// How objects are printed: `wide`, `json`, `yaml`, `name`, `jsonpath=TEMPLATE`, `custom-columns=HEADER:PATH,...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    Wide,
    Json,
    Yaml,
    Name,
    JsonPath(String),
    Custom(CustomColumns),
}

impl OutputFormat {
    /// Returns whether it is a table, for people.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self, Self::Wide | Self::Custom(_))
    }
}

pub(crate) fn output_format(text: &str) -> Result<OutputFormat, String> {
    match text {
        "wide" => Ok(OutputFormat::Wide),
        "json" => Ok(OutputFormat::Json),
        "yaml" => Ok(OutputFormat::Yaml),
        "name" => Ok(OutputFormat::Name),
        other => match other.split_once('=') {
            Some(("jsonpath", template)) => Ok(OutputFormat::JsonPath(template.to_owned())),
            Some(("custom-columns", columns)) => CustomColumns::parse(columns).map(OutputFormat::Custom),
            _ => Err("expected wide, json, yaml, name, jsonpath=TEMPLATE or custom-columns=HEADER:PATH,..."
                .to_owned()),
        },
    }
}

/// Which Pods are meant where none is named.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Only Pods with these labels: `a=b,c!=d,e,!f`.
    #[arg(short = 'l', long, value_parser = Selector::parse, value_name = "SELECTOR")]
    selector: Option<Selector>,
    /// Only Pods with these values: `status.phase=Running`, `metadata.name!=web`.
    #[arg(long, value_parser = Fields::parse, value_name = "SELECTOR")]
    field_selector: Option<Fields>,
}

impl FilterArgs {
    /// Returns what was asked for, if anything.
    pub(crate) fn filter(&self) -> Option<Filter> {
        (self.selector.is_some() || self.field_selector.is_some()).then(|| Filter {
            labels: self.selector.clone().unwrap_or_default(),
            fields: self.field_selector.clone().unwrap_or_default(),
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  podrun get pods -A -o wide                 all Pods, with addresses
  podrun get pods -w                         and what becomes of them
  podrun get pods -l app=web --show-labels
  podrun get pod web -o yaml
  podrun get pod web -o jsonpath='{.status.podIP}'
  podrun get pods -o custom-columns=NAME:.metadata.name,IMAGES:.spec.containers[*].image")]
pub(crate) struct GetArgs {
    /// `pods`, then names; without names all Pods of the namespace. `pod/NAME` works too.
    #[arg(value_name = "pods [NAME]...")]
    pub(crate) what: Vec<String>,
    /// wide, json, yaml, name, jsonpath=TEMPLATE or custom-columns=HEADER:PATH,...
    #[arg(short, long, value_parser = output_format, value_name = "FORMAT")]
    pub(crate) output: Option<OutputFormat>,
    /// Go on printing changes until interrupted, of named Pods until all have ended.
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// The same without what is there at first.
    #[arg(long)]
    pub(crate) watch_only: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Pods of all namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Print no header.
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// Print all labels in a last column.
    #[arg(long)]
    pub(crate) show_labels: bool,
    /// Print these labels in columns of their own.
    #[arg(short = 'L', long, value_delimiter = ',', value_name = "KEYS")]
    pub(crate) label_columns: Vec<String>,
    /// Sort by what a path leads to: `.status.startTime`.
    #[arg(long, value_name = "PATH")]
    pub(crate) sort_by: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// `pod NAME`, `pod/NAME` or just names; none describes all Pods of the namespace.
    #[arg(value_name = "pod NAME")]
    pub(crate) what: Vec<String>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// `pod NAME`, `pod/NAME` or just names; none shows the events of all Pods of the namespace.
    #[arg(value_name = "POD")]
    pub(crate) what: Vec<String>,
    /// Only the events of this object: `pod/NAME`.
    #[arg(long = "for", value_name = "OBJECT")]
    pub(crate) object: Option<String>,
    /// Only these types: Normal, Warning.
    #[arg(long, value_delimiter = ',', value_parser = event_type, value_name = "TYPES")]
    pub(crate) types: Vec<String>,
    /// Go on printing events until interrupted.
    #[arg(short, long, short_alias = 'f')]
    pub(crate) watch: bool,
    /// wide, json or yaml.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<EventsFormat>,
    /// Pods of all namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Print no header.
    #[arg(long)]
    pub(crate) no_headers: bool,
}

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventsFormat {
    /// A table with more columns.
    Wide,
    /// JSON: `v1 Event`.
    Json,
    /// YAML: `v1 Event`.
    Yaml,
}

fn event_type(text: &str) -> Result<String, String> {
    match text.to_ascii_lowercase().as_str() {
        "normal" | "warning" => Ok(text.to_owned()),
        _ => Err("expected Normal or Warning".to_owned()),
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  podrun logs web -c nginx -f                follow a container
  podrun logs web --all-containers --prefix
  podrun logs web --previous --tail=20       the end of what the container said before it was restarted
  podrun logs -l app=web --since=5m          all Pods with a label")]
pub(crate) struct LogsArgs {
    /// `NAME` or `NAME/CONTAINER`.
    #[arg(value_name = "POD", required_unless_present = "selector")]
    pub(crate) pod: Option<String>,
    /// The container, if the Pod has several.
    #[arg(value_name = "CONTAINER", conflicts_with = "container")]
    pub(crate) container_arg: Option<String>,
    /// The logs of all Pods with these labels, one after the other: `a=b,c!=d,e,!f`.
    #[arg(short = 'l', long, value_parser = Selector::parse, value_name = "SELECTOR", conflicts_with = "pod")]
    pub(crate) selector: Option<Selector>,
    /// The container, if the Pod has several.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Go on printing until the container has ended.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The log of the previous run.
    #[arg(short, long)]
    pub(crate) previous: bool,
    /// Only so many lines from the end; -1 is all. [default: -1, with a selector 10]
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub(crate) tail: Option<i64>,
    /// Put the time before each line.
    #[arg(long)]
    pub(crate) timestamps: bool,
    /// Only lines of the last while: 30s, 5m, 2h.
    #[arg(long, value_parser = output::duration, value_name = "DURATION", conflicts_with = "since_time")]
    pub(crate) since: Option<std::time::Duration>,
    /// Only lines from this time on (RFC 3339).
    #[arg(long, value_parser = output::rfc3339, value_name = "TIME")]
    pub(crate) since_time: Option<podrun_spec::time::Timestamp>,
    /// Stop after so many bytes.
    #[arg(long, value_name = "N")]
    pub(crate) limit_bytes: Option<u64>,
    /// The logs of all containers.
    #[arg(long)]
    pub(crate) all_containers: bool,
    /// Put Pod and container before each line.
    #[arg(long)]
    pub(crate) prefix: bool,
}
