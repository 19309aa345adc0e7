//! Writing values, reading them back, comparing.

use std::fmt;

use nix::unistd::{SysconfVar, sysconf};

use super::Values;
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::hugetlb::HugePageSize;

/// A file that holds something else than what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The file.
    pub file: String,
    /// What was written.
    pub wrote: String,
    /// What was read.
    pub read: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} holds {:?} after {:?} was written", self.file, self.read, self.wrote)
    }
}

/// Joins mismatches to one line.
pub(crate) fn join(mismatches: &[Mismatch]) -> String {
    mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns the values of `wanted` that `read` does not hold, in the order of `wanted`.
///
/// The kernel rounds memory down to pages of `page_size` bytes and huge pages down to their size, and prints what is
/// beyond all memory as `max`; that is no mismatch. A file that is missing in `read` counts as empty.
pub fn compare(wanted: &Values, read: &Values, page_size: u64) -> Vec<Mismatch> {
    wanted
        .iter()
        .filter_map(|(file, wrote)| {
            let read = read.get(file).unwrap_or_default().trim();
            let wrote = wrote.trim();
            (!holds(file, wrote, read, page_size)).then(|| Mismatch {
                file: file.to_owned(),
                wrote: wrote.to_owned(),
                read: read.to_owned(),
            })
        })
        .collect()
}

fn holds(file: &str, wrote: &str, read: &str, page_size: u64) -> bool {
    if wrote == read {
        return true;
    }
    let unit = match file.split_once('.') {
        Some(("memory", _)) => page_size,
        Some(("hugetlb", rest)) => match rest.split_once('.').map(|(size, _)| size.parse::<HugePageSize>()) {
            Some(Ok(size)) => size.bytes(),
            _ => return false,
        },
        _ => return false,
    };
    // The page counters of the kernel end at LONG_MAX pages' worth (PAGE_COUNTER_MAX in linux/page_counter.h).
    let counter_max = i64::MAX.unsigned_abs() / page_size;
    match (wrote.parse::<u64>(), read) {
        (Ok(wrote), "max") => wrote / page_size >= counter_max,
        (Ok(wrote), read) => read.parse() == Ok(wrote - wrote % unit),
        (Err(_), _) => false,
    }
}

/// Writes `values` in order, reads every file back and compares.
///
/// # Errors
///
/// Of [`Cgroup::write`] for the first value that the kernel refuses: [`Error::ControllerMissing`], [`Error::Write`];
/// those before it stay written. [`Error::Mismatch`] if the kernel took all and holds something else.
pub fn apply(cgroup: &Cgroup, values: &Values) -> Result<()> {
    for (file, value) in values.iter() {
        cgroup.write(file, value)?;
    }
    let mismatches = verify(cgroup, values)?;
    if mismatches.is_empty() {
        Ok(())
    } else {
        Err(Error::Mismatch { path: cgroup.path().to_owned(), mismatches })
    }
}

/// Reads every file of `values` and returns those that hold something else.
///
/// # Errors
///
/// Of [`Cgroup::read`] for the first file that cannot be read.
pub fn verify(cgroup: &Cgroup, values: &Values) -> Result<Vec<Mismatch>> {
    let mut read = Values::default();
    for (file, _) in values.iter() {
        read.set(file, cgroup.read(file)?);
    }
    Ok(compare(values, &read, page_size()))
}

/// Returns the size of a page of this machine.
pub(crate) fn page_size() -> u64 {
    // POSIX guarantees the variable; 4096 is the smallest page of any machine Linux runs on.
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::StandIn;

    fn check(file: &str, wrote: &str, read: &str, same: bool) {
        let (mut wanted, mut found) = (Values::default(), Values::default());
        wanted.set(file, wrote);
        found.set(file, read);
        assert_eq!(compare(&wanted, &found, 4096).is_empty(), same, "{file}: {wrote} / {read}");
    }

    #[test]
    fn rounding_down_to_pages_is_no_mismatch() {
        check("memory.max", "10000", "8192\n", true);
        check("memory.max", "8192", "8192\n", true);
        check("memory.max", "10000", "12288\n", false);
        check("memory.max", "10000", "4096\n", false);
        check("memory.max", "max", "max\n", true);
        check("memory.max", "8192", "max\n", false);
        check("memory.max", "max", "8192\n", false);
        check("memory.max", "9223372036854775807", "max\n", true);
        check("memory.max", "18446744073709551615", "max\n", true);
        check("memory.high", "1", "0\n", true);
    }

    #[test]
    fn huge_pages_round_to_their_own_size() {
        check("hugetlb.2MB.max", "3145728", "2097152\n", true);
        check("hugetlb.2MB.max", "3145728", "3145728\n", true);
        check("hugetlb.2MB.max", "3145728", "0\n", false);
        check("hugetlb.XB.max", "1", "0\n", false);
    }

    #[test]
    fn other_files_are_compared_as_text() {
        check("cpu.max", "max 100000", "max 100000\n", true);
        check("cpu.max", "5000 100000", "5000 50000\n", false);
        check("cpu.weight", "4097", "4096\n", false);
        check("pids.max", "5", "", false);
    }

    #[test]
    fn a_file_that_was_not_read_is_a_mismatch() {
        let mut wanted = Values::default();
        wanted.set("pids.max", "5");
        let found = compare(&wanted, &Values::default(), 4096);
        let expected = Mismatch { file: "pids.max".into(), wrote: "5".into(), read: String::new() };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn apply_writes_all_and_reads_back() {
        let stand_in = StandIn::new(&[("cpu.weight", "100"), ("memory.max", "max")]);
        let mut values = Values::default();
        values.set("cpu.weight", "39");
        values.set("memory.max", "1048576");
        apply(&stand_in.cgroup, &values).unwrap();
        assert_eq!(stand_in.content("cpu.weight"), "39");
        assert_eq!(stand_in.content("memory.max"), "1048576");
        values.set("cpu.weight", "40");
        let found = verify(&stand_in.cgroup, &values).unwrap();
        assert_eq!(join(&found), r#"cpu.weight holds "39" after "40" was written"#);
    }

    #[test]
    fn the_first_file_that_fails_is_told_and_later_ones_are_left() {
        let stand_in = StandIn::new(&[("pids.max", "max")]);
        let mut values = Values::default();
        values.set("cpu.weight", "39");
        values.set("pids.max", "5");
        let error = apply(&stand_in.cgroup, &values).unwrap_err();
        assert!(error.to_string().starts_with("write \"39\" to "), "{error}");
        assert_eq!(stand_in.content("pids.max"), "max");
        assert!(verify(&stand_in.cgroup, &values).is_err());
    }
}
