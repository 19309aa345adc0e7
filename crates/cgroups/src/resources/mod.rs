//! Requests and limits as Kubernetes means them: from millicores and bytes to the values of files, and back.

mod apply;
mod values;

pub(crate) use apply::join;
pub use apply::{Mismatch, apply, compare, verify};
pub use values::Values;
