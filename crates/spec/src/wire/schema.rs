//! The shape of the wire types, learnt from their own decoders.
//!
//! The generated types of k8s-openapi skip unknown fields and stop at the first value of a wrong type. podrun names
//! all such mistakes at once, so it needs to know which fields exist and what they hold. Each type tells that itself:
//! decoding asks the deserializer for "a struct with these fields", then for each field's value. A deserializer that
//! answers every question with a sample and notes the question down ends up with the whole shape.

use std::sync::OnceLock;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::value::{BorrowedStrDeserializer, Error};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Anything; not looked into.
    Any,
    Bool,
    Int32,
    Int64,
    Text,
    /// Base64.
    Bytes,
    /// RFC 3339.
    Time,
    Quantity,
    IntOrText,
    List(Box<Shape>),
    Map(Box<Shape>),
    Struct(StructShape),
}

/// A wire type with named fields.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StructShape {
    /// The type's name: `PodSpec`.
    pub(crate) name: &'static str,
    /// Its fields as they are written, with what they hold.
    pub(crate) fields: Vec<(&'static str, Shape)>,
}

impl StructShape {
    pub(crate) fn field(&self, name: &str) -> Option<&Shape> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, shape)| shape)
    }
}

/// The documents that podrun reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    /// As it is typed in: its status is not looked into.
    Pod,
    ConfigMap,
    Secret,
    /// As it is printed.
    PodWithStatus,
}

/// Returns the shape of a kind of document.
pub(crate) fn document(kind: Document) -> &'static Shape {
    static SHAPES: OnceLock<[Shape; 4]> = OnceLock::new();
    let shapes = SHAPES.get_or_init(|| {
        let text_map = || Shape::Map(Box::new(Shape::Text));
        let byte_map = || Shape::Map(Box::new(Shape::Bytes));
        [
            // The status of an exported manifest says nothing about what is to be done; its fields are not checked.
            top("Pod", vec![("spec", shape_of::<api::PodSpec>()), ("status", Shape::Any)]),
            top(
                "ConfigMap",
                vec![("data", text_map()), ("binaryData", byte_map()), ("immutable", Shape::Bool)],
            ),
            top(
                "Secret",
                vec![
                    ("data", byte_map()),
                    ("stringData", text_map()),
                    ("immutable", Shape::Bool),
                    ("type", Shape::Text),
                ],
            ),
            top("Pod", vec![("spec", shape_of::<api::PodSpec>()), ("status", shape_of::<api::PodStatus>())]),
        ]
    });
    &shapes[kind as usize]
}

/// Whole documents check their own `kind` while decoding, so a sample does not get past it: their few fields are
/// given here, and the rest is learnt.
fn top(name: &'static str, own: Vec<(&'static str, Shape)>) -> Shape {
    let mut fields =
        vec![("apiVersion", Shape::Text), ("kind", Shape::Text), ("metadata", shape_of::<ObjectMeta>())];
    fields.extend(own);
    Shape::Struct(StructShape { name, fields })
}

/// Returns what `T` asks for while it is decoded.
pub(crate) fn shape_of<'de, T: Deserialize<'de>>() -> Shape {
    let mut shape = Shape::Any;
    // The decoded sample is of no use, and neither is an error: what was asked for until then has been noted.
    drop(T::deserialize(Recorder { shape: &mut shape, sample: "" }));
    shape
}

/// Answers with samples and notes down what was asked for.
struct Recorder<'a> {
    shape: &'a mut Shape,
    sample: &'static str,
}

macro_rules! record_scalars {
    ($($method:ident => $shape:expr, $visit:ident($sample:expr);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            *self.shape = $shape;
            visitor.$visit($sample)
        }
    )*};
}

impl<'de> Deserializer<'de> for Recorder<'_> {
    type Error = Error;

    record_scalars! {
        deserialize_bool => Shape::Bool, visit_bool(false);
        deserialize_i32 => Shape::Int32, visit_i32(0);
        deserialize_i64 => Shape::Int64, visit_i64(0);
        deserialize_string => Shape::Text, visit_str("");
    }

    /// Only byte strings (base64) and times ask for a borrowed string; the latter stand in a newtype.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.shape = Shape::Bytes;
        visitor.visit_str(self.sample)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.shape = Shape::IntOrText;
        visitor.visit_str(self.sample)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (shape, sample) = match name {
            "Quantity" => (Shape::Quantity, "0"),
            "Time" | "MicroTime" => (Shape::Time, "1970-01-01T00:00:00Z"),
            _ => (Shape::Any, ""),
        };
        *self.shape = shape;
        visitor.visit_newtype_struct(Recorder { shape: &mut Shape::Any, sample })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut element = Shape::Any;
        let result = visitor.visit_seq(OneElement(Some(&mut element)));
        *self.shape = Shape::List(Box::new(element));
        result
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut fields = vec![("", Shape::Any)];
        let result = visitor.visit_map(Fields { fields: &mut fields, next: 0 });
        let value = fields.pop().map_or(Shape::Any, |(_, shape)| shape);
        *self.shape = Shape::Map(Box::new(value));
        result
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut fields: Vec<_> = names.iter().map(|name| (*name, Shape::Any)).collect();
        let result = visitor.visit_map(Fields { fields: &mut fields, next: 0 });
        *self.shape = Shape::Struct(StructShape { name, fields });
        result
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum
        identifier ignored_any
    }
}

/// A list of one element.
struct OneElement<'a>(Option<&'a mut Shape>);

impl<'de> SeqAccess<'de> for OneElement<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|shape| seed.deserialize(Recorder { shape, sample: "" })).transpose()
    }
}

/// A map that has every field once.
struct Fields<'a> {
    fields: &'a mut [(&'static str, Shape)],
    next: usize,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, _)) = self.fields.get(self.next) else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let shape = &mut self.fields[self.next].1;
        self.next += 1;
        seed.deserialize(Recorder { shape, sample: "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(mut shape: &'a Shape, path: &[&str]) -> &'a Shape {
        for step in path {
            shape = match shape {
                Shape::Struct(fields) => fields.field(step).unwrap_or_else(|| panic!("no {step}")),
                Shape::List(element) | Shape::Map(element) => element,
                other => panic!("{step} below {other:?}"),
            };
        }
        shape
    }

    #[test]
    fn the_shape_reaches_the_leaves() {
        let pod = document(Document::Pod);
        let container = ["spec", "containers", "[]"];
        let table: &[(&[&str], Shape)] = &[
            (&["image"], Shape::Text),
            (&["command", "[]"], Shape::Text),
            (&["stdin"], Shape::Bool),
            (&["ports", "[]", "containerPort"], Shape::Int32),
            (&["resources", "limits", "*"], Shape::Quantity),
            (&["securityContext", "runAsUser"], Shape::Int64),
            (&["livenessProbe", "httpGet", "port"], Shape::IntOrText),
        ];
        for (path, expected) in table {
            assert_eq!(at(pod, &[&container, *path].concat()), expected, "{path:?}");
        }
        assert_eq!(at(pod, &["metadata", "creationTimestamp"]), &Shape::Time);
        assert_eq!(at(pod, &["metadata", "labels", "*"]), &Shape::Text);
    }

    #[test]
    fn nothing_below_the_spec_is_unknown() {
        fn walk(shape: &Shape, path: &str) {
            match shape {
                Shape::Any => panic!("the shape of {path} was not learnt"),
                Shape::List(inner) | Shape::Map(inner) => walk(inner, &format!("{path}[]")),
                Shape::Struct(fields) => {
                    for (name, inner) in &fields.fields {
                        walk(inner, &format!("{path}.{name}"));
                    }
                }
                _ => {}
            }
        }
        // `managedFields` of a volume claim's template is free-form by definition.
        let Shape::Struct(pod) = document(Document::Pod) else { panic!("a struct") };
        let Some(Shape::Struct(spec)) = pod.field("spec") else { panic!("a struct") };
        for (name, shape) in spec.fields.iter().filter(|(name, _)| *name != "volumes") {
            walk(shape, name);
        }
    }
}
