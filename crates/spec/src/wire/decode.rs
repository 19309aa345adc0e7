//! From a typed-in tree to JSON that fits the wire types, naming every mistake on the way.

use k8s_openapi::ByteString;
use serde::de::Deserialize;
use serde::de::value::{Error, StrDeserializer};
use serde_json::Value as Json;

use super::schema::{Shape, StructShape};
use super::suggest::suggest;
use crate::fault::Fault;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::tree::{Mark, Node, Value};

/// Decodes a document. What is null or an empty list or map is left out, as the API treats it like an absent field.
/// Quantities come out in canonical form.
pub(crate) fn decode(node: &Node, shape: &Shape, root: &Path) -> (Json, Vec<Fault>) {
    let mut decoder = Decoder { faults: Vec::new(), around: Vec::new() };
    let json = decoder.value(node, node.mark, shape, root).unwrap_or(Json::Null);
    (json, decoder.faults)
}

struct Decoder<'a> {
    faults: Vec<Fault>,
    /// The objects around the one that is read, from the outside.
    around: Vec<&'a StructShape>,
}

impl<'a> Decoder<'a> {
    fn fault(&mut self, mark: Mark, path: &Path, message: impl Into<String>) {
        self.faults.push(Fault::at(mark, path, message));
    }

    fn value(&mut self, node: &Node, mark: Mark, shape: &'a Shape, path: &Path) -> Option<Json> {
        match (shape, &node.value) {
            (_, Value::Null) => None,
            (Shape::Any, _) => Some(plain(node)),
            (Shape::Bool, Value::Bool(value)) => Some(Json::Bool(*value)),
            (Shape::Int32 | Shape::IntOrText, Value::Int(value)) => self.integer::<i32>(*value, mark, path),
            (Shape::Int64, Value::Int(value)) => self.integer::<i64>(*value, mark, path),
            (Shape::Text | Shape::IntOrText, Value::Text(text)) => Some(Json::String(text.clone())),
            (Shape::Bytes, Value::Text(text)) => self.bytes(text, mark, path),
            (Shape::Time, Value::Text(text)) => self.time(text, mark, path),
            (Shape::Quantity, Value::Text(text)) => self.quantity(text, mark, path),
            (Shape::Quantity, Value::Int(value)) => self.quantity(&value.to_string(), mark, path),
            (Shape::Quantity, Value::Float(value)) => self.quantity(&value.to_string(), mark, path),
            (Shape::List(element), Value::List(nodes)) => self.list(nodes, element, path),
            (Shape::Map(value), Value::Map(_)) => self.map(node, value, path),
            (Shape::Struct(fields), Value::Map(_)) => Some(self.object(node, fields, path)),
            _ => {
                let message = format!("expected {}, got {}", expected(shape), node.describe());
                let mut fault = Fault::at(mark, path, message);
                fault.hint = rewrite(shape, &node.value).map(str::to_owned);
                self.faults.push(fault);
                None
            }
        }
    }

    fn integer<T: TryFrom<i128> + Into<Json>>(
        &mut self,
        value: i128,
        mark: Mark,
        path: &Path,
    ) -> Option<Json> {
        if let Ok(value) = T::try_from(value) {
            return Some(value.into());
        }
        let bits = size_of::<T>() * 8;
        self.fault(mark, path, format!("expected a {bits}-bit integer, got number {value}"));
        None
    }

    fn bytes(&mut self, text: &str, mark: Mark, path: &Path) -> Option<Json> {
        // Line breaks are common in folded base64 and mean nothing.
        let text: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        if ByteString::deserialize(Base64(&text)).is_ok() {
            return Some(Json::String(text));
        }
        self.fault(mark, path, "expected base64 text");
        None
    }

    fn time(&mut self, text: &str, mark: Mark, path: &Path) -> Option<Json> {
        if text.parse::<jiff::Timestamp>().is_ok() {
            return Some(Json::String(text.to_owned()));
        }
        self.fault(mark, path, format!("expected an RFC 3339 time, got string {text:?}"));
        None
    }

    fn quantity(&mut self, text: &str, mark: Mark, path: &Path) -> Option<Json> {
        if let Ok(quantity) = Quantity::parse(text) {
            return Some(Json::String(quantity.to_string()));
        }
        let message = format!("expected a quantity, got {text:?}");
        let hint =
            "a quantity is a number with one of the suffixes m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei";
        self.faults.push(Fault::at(mark, path, message).with_hint(hint));
        None
    }

    fn list(&mut self, nodes: &[Node], element: &'a Shape, path: &Path) -> Option<Json> {
        let mut values = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            let path = path.index(index);
            if matches!(node.value, Value::Null) {
                self.fault(node.mark, &path, format!("expected {}, got null", expected(element)));
            }
            // A refused element leaves its place behind, so that those after it keep their index.
            values.push(self.value(node, node.mark, element, &path).unwrap_or(Json::Null));
        }
        (!nodes.is_empty()).then_some(Json::Array(values))
    }

    fn map(&mut self, node: &Node, shape: &'a Shape, path: &Path) -> Option<Json> {
        let mut object = serde_json::Map::new();
        self.each_key(node, path, &Path::key, |decoder, key, value, mark, path| {
            let json = decoder.value(value, mark, shape, path);
            // `key:` with nothing behind it is the empty string in a map of strings.
            let json = json.or_else(|| {
                let empty = matches!((shape, &value.value), (Shape::Text | Shape::Bytes, Value::Null));
                empty.then(|| Json::String(String::new()))
            });
            object.extend(json.map(|json| (key.to_owned(), json)));
        });
        (!object.is_empty()).then_some(Json::Object(object))
    }

    fn object(&mut self, node: &Node, fields: &'a StructShape, path: &Path) -> Json {
        let mut object = serde_json::Map::new();
        self.around.push(fields);
        self.each_key(node, path, &Path::child, |decoder, key, value, mark, path| {
            if let Some(shape) = fields.field(key) {
                let json = decoder.value(value, mark, shape, path);
                object.extend(json.map(|json| (key.to_owned(), json)));
            } else {
                let mut fault = Fault::at(mark, path, "unknown field");
                if let Some(name) = suggest(key, fields.fields.iter().map(|(name, _)| *name)) {
                    fault = fault.with_hint(format!("did you mean {name:?}?"));
                } else if let Some(owner) = decoder.neighbour(node, fields, key) {
                    fault =
                        fault.with_hint(format!("{owner} has such a field: is it indented as it should be?"));
                }
                decoder.faults.push(fault);
            }
        });
        self.around.pop();
        Json::Object(object)
    }

    /// Returns whose field it may be instead: that of something that is written beside it, or of what is around.
    fn neighbour(&self, node: &Node, fields: &StructShape, key: &str) -> Option<String> {
        let written = fields.fields.iter().filter(|(name, _)| node.get(name).is_some());
        let deeper = written.filter_map(|(name, shape)| match shape {
            Shape::Struct(inner) => Some((name, inner)),
            Shape::List(element) => match &**element {
                Shape::Struct(inner) => Some((name, inner)),
                _ => None,
            },
            _ => None,
        });
        let mut deeper = deeper.filter(|(_, inner)| inner.field(key).is_some());
        let mut around = self.around.iter().rev().skip(1).filter(|outer| outer.field(key).is_some());
        match (deeper.next(), around.next()) {
            (Some((name, _)), _) => Some(format!("{name:?}")),
            (None, Some(outer)) => Some(format!("the {} around it", outer.name)),
            (None, None) => None,
        }
    }

    /// Calls `each` for the first occurrence of each key and names the others.
    fn each_key(
        &mut self,
        node: &Node,
        path: &Path,
        down: &dyn Fn(&Path, &str) -> Path,
        mut each: impl FnMut(&mut Self, &str, &Node, Mark, &Path),
    ) {
        let Value::Map(entries) = &node.value else { return };
        for (index, entry) in entries.iter().enumerate() {
            let path = down(path, &entry.key);
            match entries[..index].iter().find(|earlier| earlier.key == entry.key) {
                Some(first) => {
                    let message = format!("is already set on line {}", first.mark.line);
                    self.fault(entry.mark, &path, message);
                }
                None => each(self, &entry.key, &entry.node, entry.mark, &path),
            }
        }
    }
}

/// Returns how a value is written that was meant for something of this shape.
fn rewrite(shape: &Shape, value: &Value) -> Option<&'static str> {
    match (shape, value) {
        (Shape::Text, Value::Int(_) | Value::Float(_) | Value::Bool(_)) => Some("put the value in quotes"),
        (Shape::Int32 | Shape::Int64, Value::Text(text)) if text.parse::<i64>().is_ok() => {
            Some("take the quotes away")
        }
        (Shape::Bool, Value::Text(text)) if text.parse::<bool>().is_ok() => Some("take the quotes away"),
        (Shape::List(_), Value::Map(_)) => Some("each item of a list begins with a dash"),
        (Shape::List(element), Value::Text(_)) if **element == Shape::Text => {
            Some("a list is written as [a, b], or with a dash before each item")
        }
        _ => None,
    }
}

fn expected(shape: &Shape) -> &'static str {
    match shape {
        Shape::Any => "a value",
        Shape::Bool => "boolean",
        Shape::Int32 | Shape::Int64 => "integer",
        Shape::Text => "string",
        Shape::Bytes => "base64 text",
        Shape::Time => "an RFC 3339 time",
        Shape::Quantity => "a quantity",
        Shape::IntOrText => "integer or string",
        Shape::List(_) => "a list",
        Shape::Map(_) | Shape::Struct(_) => "an object",
    }
}

/// Returns the JSON of a tree whose shape nobody looks into.
fn plain(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => i64::try_from(*value).map_or(Json::Null, Json::from),
        Value::Float(value) => Json::from(*value),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(nodes) => nodes.iter().map(plain).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|entry| (entry.key.clone(), plain(&entry.node))).collect())
        }
    }
}

/// A deserializer of one present string; byte strings insist on being asked for as an option.
struct Base64<'a>(&'a str);

impl<'de> serde::Deserializer<'de> for Base64<'_> {
    type Error = Error;

    fn deserialize_any<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(StrDeserializer::new(self.0))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
