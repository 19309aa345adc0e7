//! SUPPORT.md, rendered from the table. The text is made by a test only: programs have no use for it.
#![cfg(test)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Verdict, lookup, table};
use crate::wire::schema::{self, Document, Shape, StructShape};

const HEAD: &str = "\
# Which fields of a Pod podrun honours

This page lists every field of the Pod API (`v1`, Kubernetes 1.37) and what podrun does with it. It is made from the
table that the program itself uses; a test fails if the two differ or if a field is missing.

- **honoured**: podrun does what the API says, with the values that the note names.
- **refused**: a Pod that sets the field is refused by name, with file, line and column. Nothing is left out silently.
  A value that means the same as an absent field (`false`, `0`, `\"\"`, `[]`) is accepted.
- **not applicable**: accepted without effect, as the field has no meaning on one machine without a cluster.

Fields that a server writes into an exported manifest (`uid`, `resourceVersion`, `creationTimestamp`, `managedFields`,
`ownerReferences`, `status` and the like) are accepted and forgotten, so that the output of `kubectl get -o yaml` can
be run.

To change this page, change `crates/spec/src/support/table.rs` and run `UPDATE_SUPPORT=1 cargo test -p podrun-spec`.
";

/// A wire type and the verdict that its fields have where the table does not list them.
struct Section {
    shape: &'static StructShape,
    inherited: Option<Verdict>,
}

/// Returns the types in the order in which they are reached, honoured paths first.
fn sections() -> Vec<Section> {
    let mut found: Vec<Section> = Vec::new();
    for honoured in [true, false] {
        visit(schema::document(Document::Pod), Verdict::Honoured, honoured, &mut found);
    }
    found
}

fn visit(shape: &'static Shape, verdict: Verdict, honoured: bool, found: &mut Vec<Section>) {
    match shape {
        Shape::List(inner) | Shape::Map(inner) => visit(inner, verdict, honoured, found),
        Shape::Struct(shape) => {
            if !found.iter().any(|section| section.shape.name == shape.name) {
                let inherited = (verdict != Verdict::Honoured).then_some(verdict);
                found.push(Section { shape, inherited });
            }
            for (name, inner) in &shape.fields {
                let own = lookup(shape.name, name).map_or(Verdict::Refused, |row| row.verdict);
                let below = if verdict == Verdict::Honoured { own } else { verdict };
                if !honoured || below == Verdict::Honoured {
                    visit(inner, below, honoured, found);
                }
            }
        }
        _ => {}
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Honoured => "honoured",
        Verdict::Refused => "refused",
        Verdict::NotApplicable => "not applicable",
    }
}

fn render() -> String {
    let mut text = HEAD.to_owned();
    let mut below: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for Section { shape, inherited } in sections() {
        if let Some(verdict) = inherited {
            let fields: Vec<_> = shape.fields.iter().map(|(name, _)| format!("`{name}`")).collect();
            below.entry(word(verdict)).or_default().push(format!(
                "- {}: {}\n",
                shape.name,
                fields.join(", ")
            ));
            continue;
        }
        write!(text, "\n## {}\n\n| field | | note |\n|---|---|---|\n", shape.name)
            .expect("writing to memory");
        for (name, _) in &shape.fields {
            let row = lookup(shape.name, name).expect("the test for missing rows has passed");
            writeln!(text, "| `{name}` | {} | {} |", word(row.verdict), row.note).expect("writing to memory");
        }
    }
    for (word, mut lines) in below {
        lines.sort();
        write!(text, "\n## Below fields that are {word}\n\n{}", lines.concat()).expect("writing to memory");
    }
    text
}

#[test]
fn the_table_has_every_field_of_the_wire_types() {
    let sections = sections();
    let mut missing = Vec::new();
    for section in sections.iter().filter(|section| section.inherited.is_none()) {
        for (name, _) in &section.shape.fields {
            if lookup(section.shape.name, name).is_none() {
                missing.push(format!("{}.{name}", section.shape.name));
            }
        }
    }
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}

#[test]
fn the_table_has_no_field_that_the_wire_types_lack_and_none_twice() {
    let sections = sections();
    let mut seen = Vec::new();
    for row in table::TABLE {
        let known = sections.iter().any(|s| s.shape.name == row.owner && s.shape.field(row.field).is_some());
        assert!(known, "{}.{} is no field", row.owner, row.field);
        assert!(!seen.contains(&(row.owner, row.field)), "{}.{} stands twice", row.owner, row.field);
        seen.push((row.owner, row.field));
    }
}

#[test]
fn the_support_page_is_the_rendered_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../SUPPORT.md");
    let rendered = render();
    if std::env::var_os("UPDATE_SUPPORT").is_some() {
        std::fs::write(path, &rendered).expect("write SUPPORT.md");
    }
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(page == rendered, "SUPPORT.md differs from the table: run with UPDATE_SUPPORT=1");
}
