//! Requests and limits as Kubernetes means them: from millicores and bytes to the values of files, written, read back
//! and compared.
//!
//! Everything but [`apply`] and [`verify`] is pure, and gives the numbers that a kubelet and an OCI runtime give.
//!
//! ```
//! use podrun_cgroups::resources::{Limits, Policy, QosClass, Requests, container_values};
//!
//! let requests = Requests { millicores: Some(250), memory: Some(64 << 20) };
//! let limits = Limits { millicores: Some(500), memory: Some(128 << 20), ..Limits::default() };
//! let values = container_values(&requests, &limits, &Policy::new(QosClass::Burstable));
//! assert_eq!(
//!     values.to_string(),
//!     "cpu.weight 35\ncpu.max 50000 100000\nmemory.max 134217728\nmemory.oom.group 1\n"
//! );
//! ```

mod apply;
mod build;
mod cpu;
mod memory;
mod oom;
mod values;

pub(crate) use apply::join;
pub use apply::{Mismatch, apply, compare, verify};
pub use build::{Limits, Policy, Requests, container_values, group_values};
pub use cpu::{CpuShares, WeightConversion, cpu_max};
pub use memory::{MemoryQos, MemoryReservation, Swap, memory_high, swap_max};
pub use oom::{OomScoreInputs, oom_score_adj, request_with_share};
pub use values::Values;

/// The quality of service class that Kubernetes derives from requests and limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QosClass {
    /// Every container has limits for CPU and memory, and requests as much.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}
