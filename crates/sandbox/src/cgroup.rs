//! Writing a plan's values to a cgroup.

use podrun_cgroups::{Cgroup, resources};
use podrun_plan::model::FileValue;

use crate::SandboxError;

/// Writes each value, reads all back and compares.
///
/// # Errors
///
/// [`SandboxError::Cgroup`] if a controller or file is missing, a value is refused, or the kernel keeps another one.
pub fn apply_values(cgroup: &Cgroup, values: &[FileValue]) -> Result<(), SandboxError> {
    let values = values.iter().map(|value| (&value.file, &value.value)).collect();
    Ok(resources::apply(cgroup, &values)?)
}
