//! Which Pods a command line means: `pod NAME...`, `pod/NAME`, `NAME`, `--all`, `-l SELECTOR`.

use podrun_engine::PodView;

use crate::commands::get::pod_document;
use crate::exit_code::Code;
use crate::fields::Fields;
use crate::report::CommandError;
use crate::selector::Selector;

/// What a Pod is called before its name.
const POD: [&str; 3] = ["pod", "pods", "po"];

/// What podrun has none of, by the names that kubectl knows, with where to look instead, if anywhere.
const OTHERS: [(&[&str], &str); 16] = [
    (&["all"], "podrun get pods"),
    (&["event", "events", "ev"], "podrun events"),
    (&["node", "nodes", "no"], "podrun doctor"),
    (&["image", "images"], "podrun image ls"),
    (&["namespace", "namespaces", "ns"], "podrun get pods -A"),
    (&["deployment", "deployments", "deploy"], ""),
    (&["replicaset", "replicasets", "rs"], ""),
    (&["statefulset", "statefulsets", "sts"], ""),
    (&["daemonset", "daemonsets", "ds"], ""),
    (&["job", "jobs", "cronjob", "cronjobs", "cj"], ""),
    (&["service", "services", "svc", "endpoints", "ep", "ingress", "ingresses", "ing"], ""),
    (&["configmap", "configmaps", "cm"], ""),
    (&["secret", "secrets"], ""),
    (
        &[
            "persistentvolumeclaim",
            "persistentvolumeclaims",
            "pvc",
            "persistentvolume",
            "persistentvolumes",
            "pv",
        ],
        "",
    ),
    (&["serviceaccount", "serviceaccounts", "sa"], ""),
    (&["replicationcontroller", "replicationcontrollers", "rc"], ""),
];

/// Which Pods are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All of the namespace.
    All,
    /// Those that a filter lets through.
    Filtered(Filter),
    /// Those with these names; none of them if nothing was said at all.
    Named(Vec<String>),
}

/// What a Pod must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) labels: Selector,
    pub(crate) fields: Fields,
}

impl Filter {
    pub(crate) fn matches(&self, view: &PodView) -> bool {
        self.labels.matches(&view.pod.meta.labels) && self.fields.match_pod(&pod_document(view))
    }
}

impl Selection {
    /// Reads what was said.
    pub(crate) fn read(what: &[String], all: bool, filter: Option<Filter>) -> Result<Self, CommandError> {
        let names = pod_names(what)?;
        match (&filter, all) {
            _ if names.is_empty() => {}
            (Some(_), _) => return Err(usage("name cannot be provided when a selector is specified")),
            (None, true) => return Err(usage("name cannot be provided with --all")),
            (None, false) => {}
        }
        Ok(match filter {
            Some(filter) => Self::Filtered(filter),
            None if all => Self::All,
            None => Self::Named(names),
        })
    }

    /// Returns whether a Pod is one of them, as far as its name and labels tell.
    pub(crate) fn matches(&self, view: &PodView) -> bool {
        match self {
            Self::All => true,
            Self::Filtered(filter) => filter.matches(view),
            Self::Named(names) => names.contains(&view.pod.meta.name),
        }
    }
}

/// Returns the names of `pod NAME`, `pods NAME...`, `pod/NAME`, `NAME`. What is not about Pods is refused: a Deployment of
/// that name is not the Pod.
pub(crate) fn pod_names(what: &[String]) -> Result<Vec<String>, CommandError> {
    let (kind, rest) = match what {
        [first, rest @ ..] if is_pod(first) => (None, rest),
        // Kinds can be listed: pods,services.
        [first, ..] if first.contains(',') => (Some(first.as_str()), what),
        // Alone it may be a Pod's name, and so it may before an annotation.
        [first, second, ..] if other(first).is_some() && !second.contains('=') && !second.ends_with('-') => {
            (Some(first.as_str()), what)
        }
        _ => (None, what),
    };
    if let Some(kind) = kind {
        return Err(not_a_pod(kind));
    }
    rest.iter()
        .map(|name| match name.split_once('/') {
            Some((kind, name)) if is_pod(kind) => Ok(name.to_owned()),
            Some((kind, _)) if other(kind).is_some() => Err(not_a_pod(kind)),
            _ => Ok(name.clone()),
        })
        .collect()
}

/// Returns Pod and container of `NAME`, `NAME/CONTAINER`, `pod/NAME`.
pub(crate) fn pod_and_container(text: &str) -> (&str, Option<&str>) {
    let name = match text.split_once('/') {
        Some((kind, name)) if is_pod(kind) => name,
        _ => text,
    };
    match name.split_once('/') {
        Some((name, container)) => (name, Some(container)),
        None => (name, None),
    }
}

/// Returns what may help where a Pod of that name is not there, as it looks like a kind.
pub(crate) fn hint_for(name: &str) -> Option<String> {
    Some(match other(name)? {
        "" => "podrun knows Pods only".to_owned(),
        command => format!("podrun knows Pods only; {command} may be what you want"),
    })
}

pub(crate) fn is_pod(kind: &str) -> bool {
    POD.iter().any(|pod| pod.eq_ignore_ascii_case(kind))
}

/// Returns where to look instead for something of another kind; an empty text is nowhere.
fn other(kind: &str) -> Option<&'static str> {
    let known = |(names, _): &&(&[&str], _)| names.iter().any(|name| name.eq_ignore_ascii_case(kind));
    OTHERS.iter().find(known).map(|(_, instead)| *instead)
}

fn not_a_pod(kind: &str) -> CommandError {
    usage(&format!("podrun knows Pods only, got {kind:?}"))
        .with_hint("podrun get pods lists them; pod/NAME is one")
}

fn usage(message: &str) -> CommandError {
    CommandError::new(Code::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &str) -> Result<Vec<String>, CommandError> {
        pod_names(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn pods_are_named_in_every_way_that_kubectl_knows() {
        let cases: [(&str, &[&str]); 9] = [
            ("pods", &[]),
            ("pod a b", &["a", "b"]),
            ("Pod a", &["a"]),
            ("pod/a po/b", &["a", "b"]),
            ("a", &["a"]),
            ("po pods", &["pods"]),
            // Pods may have such names.
            ("service", &["service"]),
            ("pod service", &["service"]),
            ("node a=b", &["node", "a=b"]),
        ];
        for (words, expected) in cases {
            assert_eq!(names(words).unwrap(), expected, "{words}");
        }
    }

    #[test]
    fn a_deployment_is_no_pod_of_that_name() {
        for words in [
            "deploy web",
            "deployments web",
            "svc/web",
            "Deployment/web",
            "pods,svc",
            "pod a svc/b",
            "rs a b",
        ] {
            names(words).unwrap_err();
        }
        assert_eq!(hint_for("events").unwrap(), "podrun knows Pods only; podrun events may be what you want");
        assert_eq!(hint_for("deploy").unwrap(), "podrun knows Pods only");
        assert_eq!(hint_for("web"), None);
    }

    #[test]
    fn names_selectors_and_all_exclude_each_other() {
        let filter =
            || Some(Filter { labels: Selector::parse("app=web").unwrap(), fields: Fields::default() });
        let read = |words: &[&str], all, filter| {
            Selection::read(&words.iter().map(ToString::to_string).collect::<Vec<_>>(), all, filter)
        };
        assert_eq!(read(&["pods"], true, None).unwrap(), Selection::All);
        assert_eq!(read(&["pods"], true, filter()).unwrap(), Selection::Filtered(filter().unwrap()));
        assert_eq!(read(&["pod", "a"], false, None).unwrap(), Selection::Named(vec!["a".to_owned()]));
        assert_eq!(read(&["pod"], false, None).unwrap(), Selection::Named(Vec::new()));
        read(&["a"], true, None).unwrap_err();
        read(&["pod", "a"], false, filter()).unwrap_err();
    }

    #[test]
    fn a_container_stands_behind_its_pod() {
        for (text, expected) in [
            ("web", ("web", None)),
            ("pod/web", ("web", None)),
            ("web/app", ("web", Some("app"))),
            ("po/web/app", ("web", Some("app"))),
        ] {
            assert_eq!(pod_and_container(text), expected, "{text}");
        }
    }
}
