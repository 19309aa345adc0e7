//! The only file that knows the YAML library: text to [`Node`] trees, and JSON values to text.
//!
//! JSON is read by the same reader, being YAML in all that matters here.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::tree::{Entry, Mark, Node, Value};

/// A text that is no YAML.
pub(crate) struct SyntaxFault {
    pub(crate) mark: Mark,
    pub(crate) message: String,
}

/// Reads all documents of a text; empty ones are left out.
///
/// Aliases are expanded, within limits that a bomb of them exceeds. Keys that occur twice are kept twice, so that
/// the caller can say so together with everything else that is wrong.
pub(crate) fn read(text: &str) -> Result<Vec<Node>, SyntaxFault> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 256,
            max_depth: 32,
            max_nodes: 100_000,
            max_events: 400_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 100,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
            max_alias_expansions_per_anchor: 1_000,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        // File modes are written 0644.
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let documents: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let plain = error.without_snippet();
        let mark = plain.location().map(mark_of).unwrap_or_default();
        SyntaxFault { mark, message: plain_message(&plain.to_string()) }
    })?;
    Ok(documents.into_iter().filter(|node| !matches!(node.value, Value::Null)).collect())
}

/// Returns the library's message without the place that it puts at an end of it, and as one line.
fn plain_message(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    let line = match line.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((_, rest)) => rest,
        None => line,
    };
    line.trim_end_matches(['.', ':', ' ']).to_owned()
}

/// Writes a JSON value as a YAML document.
pub(crate) fn write(value: &serde_json::Value) -> String {
    // Maps, lists, strings and numbers always have a YAML form and memory is the only sink, so nothing can fail.
    serde_saphyr::to_string(value).unwrap_or_default()
}

fn mark_of(location: Location) -> Mark {
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Mark { line: number(location.line()), column: number(location.column()) }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { mark: mark_of(spanned.referenced), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(i128::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Int(i128::from(value)))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = seq.next_element()? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry { key: key.value, mark: mark_of(key.referenced), node: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Path;

    fn one(text: &str) -> Node {
        let mut documents = read(text).unwrap_or_else(|fault| panic!("{}", fault.message));
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    #[test]
    fn every_key_has_its_place() {
        let node = one("a: 1\nb:\n  - x\n  - c:\n      d: y\n");
        assert_eq!(node.locate(&Path::new("a")), Mark { line: 1, column: 1 });
        assert_eq!(node.locate(&Path::new("b").index(0)), Mark { line: 3, column: 5 });
        let deep = Path::new("b").index(1).child("c").child("d");
        assert_eq!(node.locate(&deep), Mark { line: 5, column: 7 });
        assert_eq!(node.locate(&deep.child("absent")), Mark { line: 5, column: 7 });
    }

    #[test]
    fn scalars_keep_their_kind() {
        let text = "[0644, '0644', 1, 1.5, true, 'true', null, '', abc, -3, 64Mi, 1e3]";
        let Value::List(nodes) = one(text).value else { panic!("a list") };
        let kinds: Vec<String> = nodes.iter().map(Node::describe).collect();
        assert_eq!(
            kinds,
            [
                "number 420",
                "string \"0644\"",
                "number 1",
                "number 1.5",
                "boolean true",
                "string \"true\"",
                "null",
                "string \"\"",
                "string \"abc\"",
                "number -3",
                "string \"64Mi\"",
                "number 1000",
            ]
        );
    }

    #[test]
    fn json_and_several_documents_are_read() {
        assert_eq!(read("---\na: 1\n---\n---\nb: 2\n...\n").map_or(0, |nodes| nodes.len()), 2);
        let node = one("{\n\t\"a\": [1, {\"b\": \"x\\u00e4\"}]\n}\n");
        let deep = Path::new("a").index(1).child("b");
        assert_eq!(node.locate(&deep), Mark { line: 2, column: 12 });
    }

    #[test]
    fn repeated_keys_reach_the_caller() {
        let Value::Map(entries) = one("a: 1\na: 2\n").value else { panic!("a map") };
        assert_eq!(entries.len(), 2);
    }

    #[test]
    fn bombs_and_depth_are_refused() {
        let level = |n: usize| {
            let previous = vec![format!("*a{}", n - 1); 10].join(", ");
            format!("a{n}: &a{n} [{previous}]\n")
        };
        let bomb = ["a0: &a0 [x, x]\n".to_owned()].into_iter().chain((1..9).map(level)).collect::<String>();
        assert!(read(&bomb).is_err());
        assert!(read(&format!("{}{}", "[".repeat(100), "]".repeat(100))).is_err());
    }

    #[test]
    fn syntax_errors_have_a_place_and_one_line() {
        let fault = read("a: 1\nb: [1, 2\nc: 3\n").expect_err("the flow list is not closed");
        assert!(fault.mark.line >= 2, "{:?} {}", fault.mark, fault.message);
        assert!(!fault.message.contains('\n') && !fault.message.is_empty());
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let value = serde_json::json!({
            "a": ["yes", "0644", "1e3", "null", "", "a: b", "- x", "line\nbreak\n", "#", "'", "\"", "  pad "],
            "b": {}, "c": [], "d": null, "e": true, "f": -5, "g": {"h": {"i": "~"}}, "no": "off",
        });
        let text = write(&value);
        let back: serde_json::Value = serde_saphyr::from_str(&text).expect(&text);
        assert_eq!(back, value, "{text}");
    }
}
