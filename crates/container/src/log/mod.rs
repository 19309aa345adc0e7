//! Container logs in the form that the kubelet and `kubectl logs` read.
//!
//! One entry is one line: `2016-10-06T00:17:09.669794202Z stdout F content`. `F` marks a whole line, `P` a part of one
//! that goes on in the stream's next entry. See `pkg/kubelet/kuberuntime/logs` of Kubernetes.

mod framer;
mod rfc3339;
mod tail;
mod writer;

pub use framer::{Framer, MAX_CONTENT, Stream};
pub use rfc3339::write_rfc3339;
pub use tail::{Entry, last_bytes, parse_entry};
pub use writer::LogFile;
