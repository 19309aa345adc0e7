//! A document as it was typed: values with their places.

use crate::path::{Path, Step};

/// A place in the text, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

/// A value of YAML or JSON.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value; a key may occur more than once.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) mark: Mark,
    pub(crate) node: Node,
}

impl Node {
    /// Returns the value of a key of this map.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Returns the text of this node where it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns where the field at `path` was typed: its key, or for an element of a list its value. Where the
    /// field is absent it is the nearest thing around it that is there.
    pub(crate) fn locate(&self, path: &Path) -> Mark {
        let (mut node, mut mark) = (self, self.mark);
        for step in path.steps() {
            match step {
                Step::Field(key) | Step::Key(key) => {
                    let Some(entry) = node.entry(key) else { break };
                    (node, mark) = (&entry.node, entry.mark);
                }
                Step::Index(index) => {
                    let Value::List(nodes) = &node.value else { break };
                    let Some(element) = nodes.get(*index) else { break };
                    (node, mark) = (element, element.mark);
                }
            }
        }
        mark
    }

    /// Returns the kind of this value with a glimpse of it, as errors say it: `string "abc"`.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => format!("boolean {value}"),
            Value::Int(value) => format!("number {value}"),
            Value::Float(value) => format!("number {value}"),
            Value::Text(text) if text.chars().count() > 40 => {
                format!("string {:?}…", text.chars().take(40).collect::<String>())
            }
            Value::Text(text) => format!("string {text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "an object".to_owned(),
        }
    }
}
