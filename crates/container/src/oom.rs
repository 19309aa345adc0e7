//! Whether the kernel killed a container for its memory.

use podrun_cgroups::{Cgroup, Error};

/// Returns whether the kernel has killed a process of the cgroup because of its memory limit or the machine's; none if
/// the host does not count memory here. To be asked before the cgroup is removed.
///
/// # Errors
///
/// [`Error::Read`].
pub fn oom_killed(cgroup: &Cgroup) -> Result<Option<bool>, Error> {
    match cgroup.read("memory.events") {
        Ok(text) => Ok(Some(kills(&text) > 0)),
        Err(Error::ControllerMissing { .. }) => Ok(None),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

fn kills(memory_events: &str) -> u64 {
    let value = memory_events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_and_group_kills_are_another_line() {
        // `cat memory.events`, Linux 6.12
        let golden = "low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 7\n";
        for (text, expected) in [(golden, 1), ("oom 1\noom_group_kill 3\n", 0), ("", 0)] {
            assert_eq!(kills(text), expected);
        }
    }
}
