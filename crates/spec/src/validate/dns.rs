//! Name resolution of the Pod.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as api;

use super::{Cause, names, one_of};
use crate::path::Path;

pub(super) const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// Checks `dnsPolicy` and `dnsConfig`.
pub(super) fn policy(spec: &api::PodSpec, path: &Path, causes: &mut Vec<Cause>) {
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(&path.child("dnsPolicy"), spec.dns_policy.as_ref(), &policies, causes);
    let path = path.child("dnsConfig");
    let none = spec.dns_policy.as_deref() == Some("None");
    let Some(config) = &spec.dns_config else {
        if none {
            causes.push(Cause::required(&path, "must provide `dnsConfig` when `dnsPolicy` is None"));
        }
        return;
    };
    let nameservers = config.nameservers.as_deref().unwrap_or_default();
    let at = path.child("nameservers");
    if none && nameservers.is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        causes.push(Cause::required(&at, why));
    }
    if nameservers.len() > 3 {
        causes.push(Cause::invalid_raw(&at, list(nameservers), "must not have more than 3 nameservers"));
    }
    for (index, server) in nameservers.iter().enumerate().filter(|(_, ip)| ip.parse::<IpAddr>().is_err()) {
        causes.push(Cause::invalid(&at.index(index), server, NO_ADDRESS));
    }
    searches(config.searches.as_deref().unwrap_or_default(), &path.child("searches"), causes);
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            causes.push(Cause::required(&path.child("options").index(index), "must not be empty"));
        }
    }
}

fn searches(searches: &[String], path: &Path, causes: &mut Vec<Cause>) {
    if searches.len() > 32 {
        causes.push(Cause::invalid_raw(path, list(searches), "must not have more than 32 search paths"));
    }
    if searches.join(" ").len() > 2048 {
        let why = "must not have more than 2048 characters (including spaces) in the search list";
        causes.push(Cause::invalid_raw(path, list(searches), why));
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        // A trailing dot and underscores are tolerated here, unlike in other names.
        let name = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        let reasons = names::dns_subdomain(name.trim_matches('-'));
        super::invalid_text(&path.index(index), search, reasons, causes);
    }
}

fn list(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(","))
}
