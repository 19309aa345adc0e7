//! Counts what happened and tells it in a table.

use std::collections::BTreeSet;

use crate::libtest::{self, Counts};

/// Where a program ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// It did not get so far.
    Build,
    /// On this machine.
    Here,
    /// In the virtual machine.
    Machine,
}

impl Lane {
    fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Here => "here",
            Self::Machine => "vm",
        }
    }
}

/// What one test program did.
#[derive(Debug)]
pub(super) struct Row {
    lane: Lane,
    label: String,
    pub(super) counts: Counts,
    /// Full names of the tests that passed; a skipped one is among them, since to libtest it passed.
    pub(super) passed: BTreeSet<String>,
    /// The lines that skipped tests have noted.
    pub(super) skips: Vec<String>,
}

impl Row {
    /// Reads the output of a program; one that died, or failed without saying so, is a failure.
    pub(super) fn read(
        lane: Lane,
        label: &str,
        crate_name: &str,
        code: Option<i32>,
        output: &str,
        skips: Vec<String>,
    ) -> Self {
        let found = libtest::counts(output);
        let mut counts = found.unwrap_or_default();
        let is_documentation_without_examples = crate_name.is_empty();
        let is_silent = found.is_none() && !is_documentation_without_examples;
        if counts.failed == 0 && (code != Some(0) || is_silent) {
            counts.failed = 1;
        }
        let passed =
            libtest::passed(output).into_iter().map(|name| format!("{crate_name}::{name}")).collect();
        Self { lane, label: label.to_owned(), counts, passed, skips }
    }

    /// Something that is no test but failed all the same.
    pub(super) fn broken(lane: Lane, what: &str) -> Self {
        let counts = Counts { failed: 1, ..Counts::default() };
        Self { lane, label: what.to_owned(), counts, passed: BTreeSet::new(), skips: Vec::new() }
    }

    fn passed(&self) -> usize {
        self.counts.passed.saturating_sub(self.skips.len())
    }

    fn skipped(&self) -> usize {
        self.counts.ignored + self.skips.len()
    }
}

/// The numbers of the last line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

/// Adds the rows up. A test that was skipped here but ran in the machine is not skipped, and one that
/// is ignored in both is ignored once.
fn totals(rows: &[Row]) -> Totals {
    let ran_in_machine = |skip: &&String| {
        let name = libtest::skipped_test(skip);
        rows.iter().any(|row| row.lane == Lane::Machine && name.is_some_and(|name| row.passed.contains(name)))
    };
    let mut totals = Totals::default();
    for row in rows {
        totals.passed += row.passed();
        totals.failed += row.counts.failed;
        totals.skipped += row.skips.iter().filter(|skip| !ran_in_machine(skip)).count();
        let is_twice = row.lane == Lane::Machine
            && rows.iter().any(|other| other.lane == Lane::Here && other.label == row.label);
        if !is_twice {
            totals.skipped += row.counts.ignored;
        }
    }
    totals
}

/// Prints the table; the last line holds the totals alone, for machines to read.
pub(super) fn print(rows: &[Row]) -> Totals {
    let width = rows.iter().map(|row| row.label.len()).max().unwrap_or(0);
    println!("\n{:<5}  {:<width$}  passed  failed  skipped", "where", "what");
    for row in rows {
        println!(
            "{:<5}  {:<width$}  {:>6}  {:>6}  {:>7}",
            row.lane.name(),
            row.label,
            row.passed(),
            row.counts.failed,
            row.skipped()
        );
    }
    for skip in rows.iter().flat_map(|row| &row.skips) {
        println!("{skip}");
    }
    let totals = totals(rows);
    println!("{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped);
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "test a ... ok\ntest b ... ok\n\
        test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";

    fn skip(name: &str) -> Vec<String> {
        vec![format!("SKIP t::{name}: needs the cgroup2 controller memory: there is none")]
    }

    #[test]
    fn a_skip_counts_only_if_the_machine_did_not_run_it() {
        let here = Row::read(Lane::Here, "p/t", "t", Some(0), TWO, skip("a"));
        assert_eq!(totals(&[here]), Totals { passed: 1, failed: 0, skipped: 2 });
        let here = Row::read(Lane::Here, "p/t", "t", Some(0), TWO, skip("a"));
        let machine = Row::read(Lane::Machine, "p/t", "t", Some(0), TWO, Vec::new());
        assert_eq!(totals(&[here, machine]), Totals { passed: 3, failed: 0, skipped: 1 });
    }

    #[test]
    fn a_program_that_fails_without_a_word_is_one_failure() {
        for (code, output) in [(None, TWO), (Some(101), TWO), (Some(0), ""), (Some(134), "")] {
            let row = Row::read(Lane::Here, "p/t", "t", code, output, Vec::new());
            assert_eq!(row.counts.failed, 1, "{code:?} {output}");
        }
    }

    #[test]
    fn documentation_without_examples_is_no_failure() {
        let row = Row::read(Lane::Here, "documentation", "", Some(0), "", Vec::new());
        assert_eq!(row.counts.failed, 0);
    }
}
