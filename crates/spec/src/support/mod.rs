//! The support gate: what is valid but not done by podrun is refused by name, never left out.

mod checks;
mod render;
mod table;

use serde_json::Value as Json;

use crate::path::Path;
use crate::validate::Cause;
use crate::wire::schema::{self, Document, Shape, StructShape};

/// What podrun does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Does what the API says, with the values that the note names.
    Honoured,
    /// Refuses a Pod that sets it.
    Refused,
    /// Accepts it, as it has no meaning on one machine without a cluster.
    NotApplicable,
}

/// A row of the table.
pub(crate) struct Row {
    /// The wire type.
    pub(crate) owner: &'static str,
    /// The field as it is written.
    pub(crate) field: &'static str,
    pub(crate) verdict: Verdict,
    /// A line for SUPPORT.md and for the hint of a refusal.
    pub(crate) note: &'static str,
    check: Option<fn(&Facts, &Json) -> checks::Refusals>,
}

/// What decides about several fields.
pub(crate) struct Facts {
    host_network: bool,
}

const fn row(owner: &'static str, field: &'static str, verdict: Verdict, note: &'static str) -> Row {
    Row { owner, field, verdict, note, check: None }
}

const fn yes(owner: &'static str, field: &'static str, note: &'static str) -> Row {
    row(owner, field, Verdict::Honoured, note)
}

const fn no(owner: &'static str, field: &'static str, note: &'static str) -> Row {
    row(owner, field, Verdict::Refused, note)
}

const fn na(owner: &'static str, field: &'static str, note: &'static str) -> Row {
    row(owner, field, Verdict::NotApplicable, note)
}

const fn only(
    owner: &'static str,
    field: &'static str,
    note: &'static str,
    check: fn(&Facts, &Json) -> checks::Refusals,
) -> Row {
    Row { owner, field, verdict: Verdict::Honoured, note, check: Some(check) }
}

/// Returns the row of a field.
pub(crate) fn lookup(owner: &str, field: &str) -> Option<&'static Row> {
    table::TABLE.iter().find(|row| row.owner == owner && row.field == field)
}

/// Returns a refusal for each field that a Pod, as it was written, sets and podrun does not honour.
///
/// Of a Pod that could be decoded in parts only, values are not judged: what they depend on may be missing.
pub(crate) fn check(pod: &Json, whole: bool) -> Vec<Cause> {
    let flag = |name: &str| pod["spec"][name].as_bool().unwrap_or(false);
    let mut gate = Gate { whole, facts: Facts { host_network: flag("hostNetwork") }, refusals: Vec::new() };
    gate.walk(pod, schema::document(Document::Pod), &Path::default());
    gate.refusals
}

struct Gate {
    facts: Facts,
    whole: bool,
    refusals: Vec<Cause>,
}

impl Gate {
    fn walk(&mut self, value: &Json, shape: &Shape, path: &Path) {
        match (shape, value) {
            (Shape::Struct(fields), Json::Object(object)) => {
                for (name, value) in object {
                    self.field(fields, name, value, &path.child(name));
                }
            }
            (Shape::List(element), Json::Array(list)) => {
                for (index, value) in list.iter().enumerate() {
                    self.walk(value, element, &path.index(index));
                }
            }
            _ => {}
        }
    }

    fn field(&mut self, owner: &StructShape, name: &str, value: &Json, path: &Path) {
        let row = lookup(owner.name, name);
        match row.map_or(Verdict::Refused, |row| row.verdict) {
            Verdict::NotApplicable => {}
            Verdict::Refused if says_nothing(value) => {}
            Verdict::Refused => self.refusals.push(Cause::refusal(path, row.map_or("", |row| row.note))),
            Verdict::Honoured => {
                if let Some(row) = row.filter(|_| self.whole)
                    && let Some(check) = row.check
                {
                    for (key, reason) in check(&self.facts, value) {
                        let path = key.map_or_else(|| path.clone(), |key| path.key(&key));
                        self.refusals.push(Cause::refusal_of(&path, &reason, row.note));
                    }
                }
                if let Some(shape) = owner.field(name) {
                    self.walk(value, shape, path);
                }
            }
        }
    }
}

/// Returns true for values that mean the same as an absent field.
fn says_nothing(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Number(number) => number.as_i64() == Some(0),
        Json::String(text) => text.is_empty(),
        Json::Array(list) => list.is_empty(),
        _ => false,
    }
}
