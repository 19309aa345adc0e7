//! Writing a plan's values to a cgroup.

use podrun_cgroups::Cgroup;
use podrun_plan::model::FileValue;

use crate::SandboxError;

/// Writes each value and reads it back.
///
/// # Errors
///
/// [`SandboxError::Cgroup`] if a file is missing or a value refused, [`SandboxError::NotTaken`] if the kernel keeps
/// another one.
pub fn apply(cgroup: &Cgroup, values: &[FileValue]) -> Result<(), SandboxError> {
    for FileValue { file, value } in values {
        cgroup.write(file, value)?;
        let found = cgroup.read(file)?;
        if !taken(value, &found) {
            return Err(SandboxError::NotTaken {
                path: cgroup.path().join(file),
                wanted: value.clone(),
                found: found.trim_end().to_owned(),
            });
        }
    }
    Ok(())
}

/// Returns whether a file shows what was written. Bytes are rounded down to pages, `max` may gain a period, and files
/// with a line for each device show more than was written.
fn taken(wanted: &str, found: &str) -> bool {
    const LARGEST_PAGE: u64 = 64 * 1024;
    let (wanted, found) = (wanted.trim(), found.trim());
    if wanted == found || found.lines().any(|line| line == wanted) {
        return true;
    }
    match (wanted.parse::<u64>(), found.parse::<u64>()) {
        (Ok(wanted), Ok(found)) => found <= wanted && wanted - found < LARGEST_PAGE && found % 4096 == 0,
        _ => {
            wanted == "max" && found.starts_with("max ")
                || found.strip_prefix(wanted).is_some_and(|r| r.starts_with(' '))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_rounds_is_taken_and_anything_else_is_not() {
        let table = [
            ("max", "max\n", true),
            ("100", "100\n", true),
            ("max", "max 100000\n", true),
            ("50000 100000", "50000 100000\n", true),
            ("50000", "50000 100000\n", true),
            ("134217729", "134217728\n", true),
            ("134217728", "134217728\n", true),
            ("134217728", "max\n", false),
            ("100", "10\n", false),
            ("100", "1000\n", false),
            ("50000 100000", "max 100000\n", false),
            ("8:0 rbps=1", "8:16 rbps=2 wbps=max\n8:0 rbps=1\n", true),
        ];
        for (wanted, found, expected) in table {
            assert_eq!(taken(wanted, found), expected, "{wanted:?} {found:?}");
        }
    }
}
