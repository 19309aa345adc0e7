//! Requests and limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;

/// Quantities by resource name: `cpu`, `memory`, `ephemeral-storage`, `hugepages-2Mi`.
pub type ResourceList = BTreeMap<String, Quantity>;

/// `resources` of a container or of the Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// What is set aside.
    pub requests: ResourceList,
    /// What is never exceeded.
    pub limits: ResourceList,
}

impl Resources {
    /// Returns the requested CPU in millicores, rounded up.
    pub fn cpu_request_millis(&self) -> Option<u64> {
        self.requests.get("cpu").map(Quantity::millis)
    }

    /// Returns the CPU limit in millicores, rounded up.
    pub fn cpu_limit_millis(&self) -> Option<u64> {
        self.limits.get("cpu").map(Quantity::millis)
    }

    /// Returns the requested memory in bytes, rounded up.
    pub fn memory_request(&self) -> Option<u64> {
        self.requests.get("memory").map(Quantity::units)
    }

    /// Returns the memory limit in bytes, rounded up.
    pub fn memory_limit(&self) -> Option<u64> {
        self.limits.get("memory").map(Quantity::units)
    }
}

/// `status.qosClass`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum QosClass {
    /// Every container has CPU and memory limits equal to its requests.
    Guaranteed,
    /// Some container requests or limits CPU or memory.
    Burstable,
    /// No request and no limit.
    #[default]
    BestEffort,
}
