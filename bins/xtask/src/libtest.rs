//! Reads what Rust's test harness prints.

use std::collections::BTreeSet;

/// Counts of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// Sums all lines of the form `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; absent if there
/// is none, because the program died before it could print one.
pub(crate) fn counts(output: &str) -> Option<Counts> {
    let lines = output.lines().filter_map(parse_result);
    lines.fold(None, |sum, counts| {
        let mut sum = sum.unwrap_or_default();
        sum += counts;
        Some(sum)
    })
}

fn parse_result(line: &str) -> Option<Counts> {
    let rest = line.trim_end().strip_prefix("test result: ")?;
    let (_, rest) = rest.split_once(". ")?;
    let number = |what: &str| {
        let part = rest.split("; ").find_map(|part| part.strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")?, ignored: number("ignored")? })
}

/// Returns the names of the tests that passed.
pub(crate) fn passed(output: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let line = line.trim_end().strip_prefix("test ")?.strip_suffix(" ... ok")?;
        Some(line.split(" - ").next()?.to_owned())
    };
    output.lines().filter_map(name).collect()
}

/// Returns the full name of the test in a line `SKIP crate::module::test: needs ...`.
pub(crate) fn skipped_test(line: &str) -> Option<&str> {
    line.strip_prefix("SKIP ")?.split(": needs ").next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_many_programs_are_summed() {
        let output = "running 2 tests\ntest a ... ok\n\
            test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\r\n";
        assert_eq!(counts(output), Some(Counts { passed: 3, failed: 3, ignored: 1 }));
    }

    #[test]
    fn a_program_that_died_has_no_counts() {
        assert_eq!(counts("running 2 tests\ntest a ... ok\n"), None);
    }

    #[test]
    fn names_of_passed_tests_and_of_skips_agree() {
        let output = "test m::a ... ok\ntest b ... FAILED\ntest c - should panic ... ok\n";
        assert_eq!(passed(output).into_iter().collect::<Vec<_>>(), ["c", "m::a"]);
        let line = "SKIP pods::m::a: needs the cgroup2 controller memory: why";
        assert_eq!(skipped_test(line), Some("pods::m::a"));
    }
}
