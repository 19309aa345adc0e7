//! A missing requirement is told on stderr and in the log, or fails.
//!
//! The tests re-run this binary for the two tests at the end, whose outcome is what is examined.

use std::process::{Command, Output};

use podrun_testkit::{TempRoot, require};

const ARMED: &str = "PODRUN_TESTKIT_ARMED";

#[expect(clippy::disallowed_methods, reason = "the test examines a test run from outside")]
fn rerun(test: &str, log: &std::path::Path, require_all: &str) -> Output {
    Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", test])
        .env(ARMED, "1")
        .env("PODRUN_SKIP_LOG", log)
        .env("PODRUN_REQUIRE_ALL", require_all)
        .output()
        .expect("the test binary runs")
}

#[test]
fn a_skip_is_one_line_on_stderr_and_in_the_log() {
    for test in ["needs_too_much", "needs_too_much_with_a_result"] {
        let root = TempRoot::new();
        let log = root.path().join("skips");
        let output = rerun(test, &log, "0");
        let expected = format!("SKIP skips_are_visible::{test}: needs Linux 99.0: the kernel is ");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.starts_with(&expected), "{stderr}");
        let logged = std::fs::read_to_string(&log).expect("a log");
        assert!(logged.starts_with(&expected) && logged.lines().count() == 1, "{logged}");
        root.close();
    }
}

#[test]
fn with_all_required_a_skip_is_a_failure() {
    let root = TempRoot::new();
    let log = root.path().join("skips");
    let output = rerun("needs_too_much", &log, "1");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{stdout}");
    assert!(stdout.contains("PODRUN_REQUIRE_ALL=1 forbids to SKIP"), "{stdout}");
    assert!(!log.exists());
    root.close();
}

#[test]
fn needs_too_much() {
    if std::env::var_os(ARMED).is_some() {
        require!(kernel(3, 0), kernel(99, 0));
        panic!("a test that lacks something must not go on");
    }
}

#[test]
fn needs_too_much_with_a_result() -> Result<(), std::io::Error> {
    if std::env::var_os(ARMED).is_some() {
        require!(kernel(99, 0));
        panic!("a test that lacks something must not go on");
    }
    Ok(())
}
