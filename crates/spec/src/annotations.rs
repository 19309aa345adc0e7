//! What annotations ask for: bandwidth, and probes more often than once a second.
//!
//! A cluster looks at such annotations when the Pod is about to start, if at all. Here a value that cannot be meant is
//! a fault of the manifest like any other, and so is an annotation below `podrun.io/` that nobody reads.

mod bandwidth;
mod probes;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;

pub(crate) use bandwidth::bandwidth;
pub(crate) use probes::set_probe_periods;

use crate::path::Path;
use crate::validate::Cause;
use crate::wire::suggest::suggest;

pub(crate) const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
pub(crate) const EGRESS: &str = "kubernetes.io/egress-bandwidth";
pub(crate) const INGRESS_BURST: &str = "podrun.io/ingress-burst";
pub(crate) const EGRESS_BURST: &str = "podrun.io/egress-burst";
pub(crate) const UNSHAPED: &str = "podrun.io/unshaped-subnets";
pub(crate) const MODE: &str = "podrun.io/bandwidth-mode";
pub(crate) const PROBE_PERIOD: &str = "podrun.io/probe-period-ms";

/// The prefix of what podrun alone understands.
const OWN: &str = "podrun.io/";
/// Everything below it.
const KNOWN: &[&str] = &[INGRESS_BURST, EGRESS_BURST, UNSHAPED, MODE, PROBE_PERIOD];

/// Returns true for what is read when a Pod is created, and never again.
pub(crate) fn is_fixed(key: &str) -> bool {
    key == PROBE_PERIOD
        || key.starts_with("container.apparmor.security.beta.kubernetes.io/")
        || key.starts_with("container.seccomp.security.alpha.kubernetes.io/")
        || key == "seccomp.security.alpha.kubernetes.io/pod"
}

/// A value that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The annotation.
    pub(crate) key: &'static str,
    /// Its value.
    pub(crate) value: String,
    /// Why.
    pub(crate) why: String,
}

impl Mistake {
    fn new(key: &'static str, value: &str, why: impl Into<String>) -> Self {
        Self { key, value: value.to_owned(), why: why.into() }
    }
}

/// Adds a cause for each annotation that cannot be meant.
pub(crate) fn check(pod: &api::Pod, causes: &mut Vec<Cause>) {
    let Some(annotations) = &pod.metadata.annotations else { return };
    let path = Path::new("metadata").child("annotations");
    let mut mistakes = Vec::new();
    bandwidth(annotations, &mut mistakes);
    if let Some(spec) = &pod.spec {
        bandwidth::check_host_network(annotations, spec.host_network == Some(true), &mut mistakes);
        probes::periods(annotations, &probes::of_wire(spec), &mut mistakes);
    }
    causes.extend(mistakes.iter().map(|m| Cause::invalid(&path.key(m.key), &m.value, &m.why)));
    causes.extend(unknown(annotations, &path));
}

fn unknown<'a>(
    annotations: &'a BTreeMap<String, String>,
    path: &'a Path,
) -> impl Iterator<Item = Cause> + 'a {
    let own = annotations.keys().filter(|key| key.starts_with(OWN) && !KNOWN.contains(&key.as_str()));
    own.map(|key| {
        let mut cause = Cause::new(&path.key(key), "unknown annotation of podrun");
        cause.hint = suggest(key, KNOWN.iter().copied()).map(|name| format!("did you mean {name:?}?"));
        cause
    })
}
