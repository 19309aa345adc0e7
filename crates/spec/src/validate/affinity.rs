//! Which nodes a Pod wants.

use k8s_openapi::api::core::v1 as api;

use super::{Cause, names};
use crate::path::Path;

/// Checks `nodeSelector` and `affinity.nodeAffinity`. Affinity to other Pods is refused as a whole where it is required.
pub(super) fn nodes(spec: &api::PodSpec, path: &Path, causes: &mut Vec<Cause>) {
    super::labels(spec.node_selector.as_ref(), &path.child("nodeSelector"), causes);
    let Some(affinity) = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref()) else {
        return;
    };
    let path = path.child("affinity").child("nodeAffinity");
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        let path = path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        if required.node_selector_terms.is_empty() {
            causes.push(Cause::required(&path, "must have at least one node selector term"));
        }
        for (index, term) in required.node_selector_terms.iter().enumerate() {
            self::term(term, true, &path.index(index), causes);
        }
    }
    let path = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (index, preferred) in
        affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate()
    {
        let path = path.index(index);
        if !(1..=100).contains(&preferred.weight) {
            causes.push(Cause::invalid_raw(
                &path.child("weight"),
                preferred.weight,
                "must be in the range 1-100",
            ));
        }
        self::term(&preferred.preference, false, &path.child("preference"), causes);
    }
}

/// Values are checked of required terms only.
fn term(term: &api::NodeSelectorTerm, required: bool, path: &Path, causes: &mut Vec<Cause>) {
    for (index, one) in term.match_expressions.iter().flatten().enumerate() {
        expression(one, required, &path.child("matchExpressions").index(index), causes);
    }
    for (index, one) in term.match_fields.iter().flatten().enumerate() {
        field(one, &path.child("matchFields").index(index), causes);
    }
}

fn expression(one: &api::NodeSelectorRequirement, required: bool, path: &Path, causes: &mut Vec<Cause>) {
    let values = one.values.as_deref().unwrap_or_default();
    let at = path.child("values");
    match one.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            causes.push(Cause::required(&at, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            causes.push(Cause::forbidden(&at, why));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            causes.push(Cause::required(&at, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => causes.push(no_operator(other, path)),
    }
    super::invalid_text(&path.child("key"), &one.key, names::label_key(&one.key), causes);
    if required {
        for (index, value) in values.iter().enumerate() {
            super::invalid_text(&at.index(index), value, names::label_value(value), causes);
        }
    }
}

fn field(one: &api::NodeSelectorRequirement, path: &Path, causes: &mut Vec<Cause>) {
    let values = one.values.as_deref().unwrap_or_default();
    let at = path.child("values");
    match one.operator.as_str() {
        "In" | "NotIn" if values.len() != 1 => {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            causes.push(Cause::required(&at, why));
        }
        "In" | "NotIn" => {}
        other => causes.push(no_operator(other, path)),
    }
    if one.key == "metadata.name" {
        for (index, value) in values.iter().enumerate() {
            super::invalid_text(&at.index(index), value, names::dns_subdomain(value), causes);
        }
    } else {
        causes.push(Cause::invalid(&path.child("key"), &one.key, "not a valid field selector key"));
    }
}

fn no_operator(operator: &str, path: &Path) -> Cause {
    Cause::invalid(&path.child("operator"), operator, "not a valid selector operator")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn causes(selector: &Json, affinity: &Json) -> Vec<String> {
        let spec =
            json!({"containers": [], "nodeSelector": selector, "affinity": {"nodeAffinity": affinity}});
        let spec: api::PodSpec = serde_json::from_value(spec).unwrap();
        let mut causes = Vec::new();
        nodes(&spec, &Path::new("spec"), &mut causes);
        let prefix = "spec.affinity.nodeAffinity.";
        let line =
            |cause: &Cause| format!("{}: {}", cause.path.to_string().replace(prefix, ""), cause.message);
        causes.iter().map(line).collect()
    }

    #[test]
    fn fields_are_compared_with_one_name() {
        let field = |key: &str, operator: &str, values: &[&str]| {
            let one = json!({"key": key, "operator": operator, "values": values});
            let terms = json!([{"matchFields": [one]}]);
            causes(
                &json!({}),
                &json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}),
            )
        };
        let at = "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0]";
        assert!(field("metadata.name", "In", &["a"]).is_empty());
        assert!(field("metadata.name", "NotIn", &["a"]).is_empty());
        let one = "Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
        assert_eq!(field("metadata.name", "In", &["a", "b"]), [format!("{at}.values: {one}")]);
        assert_eq!(
            field("metadata.name", "Exists", &[]),
            [format!("{at}.operator: Invalid value: \"Exists\": not a valid selector operator")]
        );
        assert_eq!(
            field("metadata.uid", "In", &["a"]),
            [format!("{at}.key: Invalid value: \"metadata.uid\": not a valid field selector key")]
        );
        assert_eq!(field("metadata.name", "In", &["A"]).len(), 1);
    }

    #[test]
    fn terms_are_there_and_preferences_have_a_weight() {
        assert_eq!(
            causes(
                &json!({}),
                &json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}})
            ),
            [
                "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one \
                 node selector term"
            ]
        );
        let expression = json!({"key": "a", "operator": "In", "values": ["not a value!"]});
        let preferred = json!([{"weight": 101, "preference": {"matchExpressions": [expression]}}]);
        assert_eq!(
            causes(
                &json!({"a": "b"}),
                &json!({"preferredDuringSchedulingIgnoredDuringExecution": preferred})
            ),
            [
                "preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range \
                 1-100"
            ]
        );
    }
}
