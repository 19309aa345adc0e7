//! Node selector and required node affinity (`pkg/scheduler/framework/plugins/nodeaffinity`).

use std::collections::BTreeSet;

use podrun_spec::model::{NodeOperator, NodeRequirement, NodeSelectorTerm, PodSpec};

use super::{Node, Refusal};

/// The only field that a term may ask for.
const NAME_FIELD: &str = "metadata.name";

/// Looks at the names of nodes to which the affinity restricts the search, before any node is looked at.
pub(super) fn check_candidates(spec: &PodSpec, node: &str) -> Option<Refusal> {
    let terms = spec.node_affinity.as_ref()?;
    let mut candidates = BTreeSet::new();
    for term in terms {
        // A term that names no nodes may match any.
        candidates.extend(names_of(term)?);
    }
    if candidates.is_empty() {
        let conflict = || Refusal {
            reasons: vec!["pod affinity terms conflict".to_owned()],
            of_pod: true,
            preemption_could_help: false,
        };
        // Without terms there are no names that could exclude each other.
        return (!terms.is_empty()).then(conflict);
    }
    (!candidates.contains(node))
        .then(|| Refusal::node("node(s) didn't satisfy plugin(s) [NodeAffinity]", false))
}

/// Returns the nodes that a term allows by name; none where it does not say.
fn names_of(term: &NodeSelectorTerm) -> Option<BTreeSet<&str>> {
    let listed = term.fields.iter().filter(|r| r.key == NAME_FIELD && r.operator == NodeOperator::In);
    listed
        .map(|r| r.values.iter().map(String::as_str).collect::<BTreeSet<_>>())
        .reduce(|all, next| all.intersection(&next).copied().collect())
}

pub(super) fn check(spec: &PodSpec, node: &Node) -> Option<Refusal> {
    let selected = spec.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    let required = spec.node_affinity.as_ref();
    let fits = selected && required.is_none_or(|terms| terms.iter().any(|term| matches(term, node)));
    (!fits).then(|| Refusal::node("node(s) didn't match Pod's node affinity/selector", false))
}

fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let label = |r: &NodeRequirement| holds(r, node.labels.get(&r.key).map(String::as_str));
    let field = |r: &NodeRequirement| holds(r, (r.key == NAME_FIELD).then_some(node.name.as_str()));
    let says_nothing = term.expressions.is_empty() && term.fields.is_empty();
    !says_nothing && term.expressions.iter().all(label) && term.fields.iter().all(field)
}

fn holds(requirement: &NodeRequirement, value: Option<&str>) -> bool {
    let listed = value.is_some_and(|value| requirement.values.iter().any(|v| v == value));
    let compare = |greater: bool| {
        let number = value.and_then(|value| value.parse::<i64>().ok());
        let limit = requirement.values.first().and_then(|limit| limit.parse::<i64>().ok());
        number.zip(limit).is_some_and(|(number, limit)| if greater { number > limit } else { number < limit })
    };
    match requirement.operator {
        NodeOperator::In => listed,
        NodeOperator::NotIn => !listed,
        NodeOperator::Exists => value.is_some(),
        NodeOperator::DoesNotExist => value.is_none(),
        NodeOperator::Gt => compare(true),
        NodeOperator::Lt => compare(false),
    }
}
