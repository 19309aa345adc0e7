//! A decoder that lets nothing pass.

use super::schema::{self, Document};
use super::{WirePod, decode};
use crate::fault::{Fault, Faults};
use crate::path::Path;
use crate::tree::Mark;
use crate::yaml;

/// Reads a `v1 Pod` with its status as a strict decoder does: what it does not know, and what has the wrong type, is an
/// error. Neither defaults nor validity are looked at.
///
/// # Errors
///
/// All [`Faults`] of the text, which has to be one document of YAML or JSON.
///
/// ```
/// let text = "{apiVersion: v1, kind: Pod, spec: {containers: []}, status: {phase: Running, fase: Running}}";
/// let faults = podrun_spec::decode_strict("pod.yaml", text).unwrap_err();
/// assert_eq!(faults.to_string(), "pod.yaml:1:78: status.fase: unknown field");
/// ```
pub fn decode_strict(source_name: &str, text: &str) -> Result<WirePod, Faults> {
    let (pod, faults) = match yaml::read(text) {
        Ok(documents) if documents.len() == 1 => {
            let shape = schema::document(Document::PodWithStatus);
            let (json, mut faults) = decode::decode(&documents[0], shape, &Path::default());
            // The kind is checked here, and so is that no required field is missing.
            let pod = serde_json::from_value(json);
            if let (Err(error), true) = (&pod, faults.is_empty()) {
                faults.push(Fault::at(documents[0].mark, &Path::default(), error.to_string()));
            }
            (pod.ok(), faults)
        }
        Ok(documents) => (None, vec![whole(format!("the text has {} documents", documents.len()))]),
        Err(syntax) => (None, vec![Fault::at(syntax.mark, &Path::default(), syntax.message)]),
    };
    match (pod, Faults::of_file(source_name, faults)) {
        (Some(pod), None) => Ok(WirePod(pod)),
        (_, Some(faults)) => Err(faults),
        (None, None) => Err(whole("no v1 Pod").into()),
    }
}

fn whole(message: impl Into<String>) -> Fault {
    Fault::at(Mark::default(), &Path::default(), message)
}
