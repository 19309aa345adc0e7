//! Pods as lines of a table.

use podrun_engine::PodView;

use super::{pod_document, summary};
use crate::cli::{GetArgs, OutputFormat};
use crate::output::{Columns, age, now, since};

/// A table that may be printed piece by piece.
pub(super) struct Rows<'a> {
    args: &'a GetArgs,
    /// Kept between pieces, so that what is printed later lines up.
    columns: Columns,
}

impl<'a> Rows<'a> {
    pub(super) fn new(args: &'a GetArgs) -> Self {
        Self { args, columns: Columns::default() }
    }

    pub(super) fn format(&mut self, views: &[PodView], header: bool) -> String {
        let custom = match &self.args.output {
            Some(OutputFormat::Custom(columns)) => Some(columns),
            _ => None,
        };
        let (head, rows): (Vec<String>, Vec<Vec<String>>) = match custom {
            Some(columns) => (
                columns.headers().into_iter().map(str::to_owned).collect(),
                views.iter().map(|view| columns.row(&pod_document(view))).collect(),
            ),
            None => (head(self.args), views.iter().map(|view| row(self.args, view)).collect()),
        };
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        self.columns.format(header.then_some(head.as_slice()), &rows)
    }
}

fn head(args: &GetArgs) -> Vec<String> {
    let mut head: Vec<String> =
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE"].into_iter().map(str::to_owned).collect();
    if args.all_namespaces {
        head.insert(0, "NAMESPACE".to_owned());
    }
    if args.output == Some(OutputFormat::Wide) {
        head.extend(["IP", "NODE", "QOS", "UID"].into_iter().map(str::to_owned));
    }
    // Of example.com/tier the last part, as in kubectl.
    head.extend(args.label_columns.iter().map(|key| key.rsplit('/').next().unwrap_or(key).to_uppercase()));
    if args.show_labels {
        head.push("LABELS".to_owned());
    }
    head
}

fn row(args: &GetArgs, view: &PodView) -> Vec<String> {
    let summary = summary(view, now());
    let meta = &view.pod.meta;
    let mut line = vec![
        meta.name.clone(),
        format!("{}/{}", summary.ready, summary.total),
        summary.status,
        summary.restarts,
        age(since(view.created, now())),
    ];
    if args.all_namespaces {
        line.insert(0, meta.namespace.clone());
    }
    if args.output == Some(OutputFormat::Wide) {
        let status = &view.published.status;
        line.extend([
            status.pod_ips.first().cloned().unwrap_or_else(|| "<none>".to_owned()),
            view.options.node_name.clone(),
            format!("{:?}", status.qos_class),
            meta.uid.clone(),
        ]);
    }
    line.extend(args.label_columns.iter().map(|key| meta.labels.get(key).cloned().unwrap_or_default()));
    if args.show_labels {
        let labels: Vec<String> = meta.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        line.push(if labels.is_empty() { "<none>".to_owned() } else { labels.join(",") });
    }
    line
}
