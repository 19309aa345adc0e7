//! Field selectors: `status.phase=Running,metadata.name!=web`.

use serde_json::Value;

/// The fields that a Pod can be selected by, as in the API server.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.phase",
    "status.podIP",
];

/// Requirements that all have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    /// The field as a JSON pointer.
    pointer: String,
    equal: bool,
    value: String,
}

impl Fields {
    /// Reads a field selector.
    ///
    /// # Errors
    /// A text that says which requirement is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        Ok(Self { requirements: parts.map(requirement).collect::<Result<_, _>>()? })
    }

    /// Returns whether a `v1 Pod` has these values; a field that is not there is empty, or `false` where it is either.
    pub(crate) fn match_pod(&self, pod: &Value) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = match pod.pointer(&requirement.pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None if requirement.pointer == "/spec/hostNetwork" => "false".to_owned(),
                None => String::new(),
            };
            (value == requirement.value) == requirement.equal
        })
    }
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let (field, equal, value) = if let Some((field, value)) = text.split_once("!=") {
        (field, false, value)
    } else if let Some((field, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (field, true, value)
    } else {
        return Err(format!("expected FIELD=VALUE or FIELD!=VALUE, got {text:?}"));
    };
    let field = field.trim();
    if !FIELDS.contains(&field) {
        return Err(format!("field label not supported: {field}; these are: {}", FIELDS.join(", ")));
    }
    let pointer = format!("/{}", field.replace('.', "/"));
    Ok(Requirement { pointer, equal, value: value.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_selected_as_by_an_api_server() {
        let pod = json!({
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "restartPolicy": "Never" },
            "status": { "phase": "Running" },
        });
        for (text, expected) in [
            ("", true),
            ("status.phase=Running", true),
            ("status.phase==Running,metadata.name=web", true),
            ("status.phase!=Running", false),
            ("metadata.name=db", false),
            ("spec.nodeName=", true),
            ("spec.hostNetwork=false", true),
        ] {
            assert_eq!(Fields::parse(text).unwrap().match_pod(&pod), expected, "{text}");
        }
        for wrong in ["status.phase", "spec.containers=x", "=x"] {
            Fields::parse(wrong).unwrap_err();
        }
    }
}
