//! Validation as the API server does it, with its messages.
//!
//! Paths follow the API server to the letter, also where it leaves out an index; [`Cause::place`] says where the
//! field really stands.

mod affinity;
mod container;
mod dns;
mod env;
mod handlers;
pub(crate) mod names;
mod os;
mod pod;
mod ports;
mod resources;
mod security;
mod signals;
mod volume;

pub(crate) use pod::pod;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::path::Path;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// The field as the message names it.
    pub(crate) path: Path,
    /// The field's place in the document.
    pub(crate) place: Path,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Cause {
    pub(crate) fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.clone(), place: path.clone(), message: message.into(), hint: None }
    }

    pub(crate) fn required(path: &Path, why: &str) -> Self {
        let colon = if why.is_empty() { "" } else { ": " };
        Self::new(path, format!("Required value{colon}{why}"))
    }

    /// A string with a wrong value.
    pub(crate) fn invalid(path: &Path, value: &str, why: &str) -> Self {
        Self::new(path, format!("Invalid value: {value:?}: {why}"))
    }

    /// A number, boolean or object with a wrong value.
    pub(crate) fn invalid_raw(path: &Path, value: impl std::fmt::Display, why: &str) -> Self {
        Self::new(path, format!("Invalid value: {value}: {why}"))
    }

    pub(crate) fn forbidden(path: &Path, why: &str) -> Self {
        Self::new(path, format!("Forbidden: {why}"))
    }

    pub(crate) fn duplicate(path: &Path, value: &str) -> Self {
        Self::new(path, format!("Duplicate value: {value:?}"))
    }

    pub(crate) fn unsupported(path: &Path, value: &str, supported: &[&str]) -> Self {
        let supported: Vec<_> = supported.iter().map(|value| format!("{value:?}")).collect();
        let supported = supported.join(", ");
        Self::new(path, format!("Unsupported value: {value:?}: supported values: {supported}"))
    }

    /// A field that is valid but not honoured.
    pub(crate) fn refusal(path: &Path, note: &str) -> Self {
        Self::refusal_of(path, "", note)
    }

    /// As [`Cause::refusal`], for some values of the field only.
    pub(crate) fn refusal_of(path: &Path, what: &str, note: &str) -> Self {
        let space = if what.is_empty() { "" } else { " " };
        let mut cause = Self::new(path, format!("{what}{space}not supported by this version of podrun"));
        let hint = if note.is_empty() { "remove the field" } else { note };
        cause.hint = Some(hint.to_owned());
        cause
    }

    /// A number outside its range.
    pub(crate) fn out_of_range(path: &Path, value: i64, least: i64, most: i64) -> Self {
        Self::invalid_raw(path, value, &format!("must be between {least} and {most}, inclusive"))
    }

    /// Sets the place where it differs from the path.
    pub(crate) fn at(mut self, place: &Path) -> Self {
        self.place = place.clone();
        self
    }
}

/// Checks name, namespace, labels and annotations.
pub(crate) fn metadata(meta: &ObjectMeta, causes: &mut Vec<Cause>) {
    let path = Path::new("metadata");
    let name = meta.name.as_deref().unwrap_or_default();
    let generate = meta.generate_name.as_deref().unwrap_or_default();
    if name.is_empty() && generate.is_empty() {
        causes.push(Cause::required(&path.child("name"), "name or generateName is required"));
    }
    let check = |field: &str, value: &str, reasons: Vec<String>, causes: &mut Vec<Cause>| {
        causes.extend(reasons.into_iter().map(|why| Cause::invalid(&path.child(field), value, &why)));
    };
    if !name.is_empty() {
        check("name", name, names::dns_subdomain(name), causes);
    }
    if !generate.is_empty() {
        check("generateName", generate, names::dns_subdomain(generate.trim_end_matches('-')), causes);
    }
    if let Some(namespace) = &meta.namespace {
        check("namespace", namespace, names::dns_label(namespace), causes);
    }
    labels(meta.labels.as_ref(), &path.child("labels"), causes);
    annotations(meta, causes);
}

/// Checks the keys and the size of annotations.
pub(crate) fn annotations(meta: &ObjectMeta, causes: &mut Vec<Cause>) {
    let annotations = Path::new("metadata").child("annotations");
    let mut size = 0;
    for (key, value) in meta.annotations.iter().flatten() {
        let reasons = names::qualified_name(&key.to_lowercase());
        let place = annotations.key(key);
        causes.extend(reasons.iter().map(|why| Cause::invalid(&annotations, key, why).at(&place)));
        size += key.len() + value.len();
    }
    if size > 256 * 1024 {
        causes.push(Cause::new(&annotations, "Too long: may not be more than 262144 bytes"));
    }
}

/// Checks labels; the messages name the map only.
fn labels(labels: Option<&BTreeMap<String, String>>, path: &Path, causes: &mut Vec<Cause>) {
    for (key, value) in labels.into_iter().flatten() {
        let place = path.key(key);
        causes.extend(names::label_key(key).iter().map(|why| Cause::invalid(path, key, why).at(&place)));
        causes
            .extend(names::label_value(value).iter().map(|why| Cause::invalid(path, value, why).at(&place)));
    }
}

/// Adds a cause for each reason why a text breaks a rule for names.
fn invalid_text(path: &Path, value: &str, reasons: Vec<String>, causes: &mut Vec<Cause>) {
    causes.extend(reasons.into_iter().map(|why| Cause::invalid(path, value, &why)));
}

/// Adds a cause where a text that may be left out breaks a rule for names.
fn optional_text(
    path: &Path,
    value: Option<&String>,
    rule: fn(&str) -> Vec<String>,
    causes: &mut Vec<Cause>,
) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        invalid_text(path, value, rule(value), causes);
    }
}

/// Adds a cause where a word that is set is none of those that the API knows.
fn one_of(path: &Path, value: Option<&String>, supported: &[&str], causes: &mut Vec<Cause>) {
    if let Some(value) = value.filter(|value| !supported.contains(&value.as_str())) {
        causes.push(Cause::unsupported(path, value, supported));
    }
}
