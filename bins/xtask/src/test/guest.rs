//! Runs test programs in the virtual machine, all in one boot unless it dies.
//!
//! An emulated processor does not always see code that another one has changed, which Linux does whenever a feature is
//! first used (`int3` in the kernel's last words). So a machine that died is booted again for what is left. A program
//! that brings it down each time has failed.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use super::build::Program;
use super::summary::{Lane, Row};
use crate::process::{Context as _, Result};
use crate::vm::{Machine, Options};
use crate::workspace::Workspace;

/// For one program; emulation is ten to twenty times slower than the processor.
const PROGRAM_SECONDS: u32 = 900;
/// For the whole machine.
const LIMIT: Duration = Duration::from_secs(90 * 60);
/// How often the machine is booted at most.
const BOOTS: usize = 4;
const BEGIN: &str = "@@begin";
const END: &str = "@@end";

/// Runs the programs; whatever goes wrong becomes a failed row.
pub(super) fn run(programs: &[&Program], workspace: &Workspace) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut left = programs.to_vec();
    for boots in 1..=BOOTS {
        let (output, died) = boot(&left, workspace).unwrap_or_else(|failure| {
            eprintln!("xtask: {}", failure.message);
            (String::new(), false)
        });
        let ended = if died && boots < BOOTS { ended(&output) } else { left.len() };
        let reported = left.drain(..ended);
        rows.extend(reported.enumerate().map(|(index, program)| row(index, program, &output)));
        let Some(next) = left.first() else { break };
        eprintln!("xtask: it is booted again, from {} on", next.label);
    }
    if rows.iter().all(|row| row.passed.is_empty() && row.counts.failed == 0) {
        return vec![Row::broken(Lane::Machine, "nothing ran")];
    }
    rows
}

/// Returns what was printed, and whether the machine died.
fn boot(programs: &[&Program], workspace: &Workspace) -> Result<(String, bool)> {
    let script = workspace.target.join(format!("vm-tests-{}.sh", std::process::id()));
    fs::write(&script, script_text(programs, workspace)).context(script.display())?;
    let options = Options { limit: LIMIT, ..Options::default() };
    let words = ["sh".to_owned(), script.display().to_string()];
    eprintln!("+ {} programs in the virtual machine", programs.len());
    let outcome = Machine::prepare(workspace, &options).and_then(|machine| machine.run(&words));
    fs::remove_file(&script).context(script.display())?;
    let outcome = outcome?;
    Ok((outcome.output, outcome.died))
}

/// Returns how many programs have ended, which they do in order.
fn ended(output: &str) -> usize {
    output.lines().filter(|line| line.starts_with(&format!("{END} "))).count()
}

fn script_text(programs: &[&Program], workspace: &Workspace) -> String {
    let mut text = String::new();
    for (index, program) in programs.iter().enumerate() {
        let mut words: Vec<String> = vec!["env".into(), "PODRUN_REQUIRE_ALL=1".into()];
        words.extend(
            program.environment(workspace).into_iter().map(|(name, value)| format!("{name}={value}")),
        );
        words.extend(["timeout", "--signal=KILL", &PROGRAM_SECONDS.to_string()].map(str::to_owned));
        words.push(program.path.display().to_string());
        let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
        // The empty line ends whatever line a test has left unfinished.
        writeln!(
            text,
            "cd {}\necho '{BEGIN} {index} {}'\n{}\ncode=$?; echo; echo \"{END} {index} $code\"",
            quote(&program.dir.display().to_string()),
            program.label,
            words.join(" ")
        )
        .expect("writing to a string");
    }
    text
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Reads what one program printed between its two markers.
fn row(index: usize, program: &Program, output: &str) -> Row {
    let mut text = String::new();
    let mut code = None;
    let mut inside = false;
    for line in output.lines().map(str::trim_end) {
        if line.starts_with(&format!("{BEGIN} {index} ")) {
            inside = true;
        } else if let Some(word) = line.strip_prefix(&format!("{END} {index} ")) {
            code = word.parse().ok();
            break;
        } else if inside {
            text.push_str(line);
            text.push('\n');
        }
    }
    let mut row = Row::read(Lane::Machine, &program.label, &program.crate_name, code, &text, Vec::new());
    // Nothing may be missing here. A skip that was let through would look like a pass.
    row.counts.failed += text.lines().filter(|line| line.starts_with("SKIP ")).count();
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(label: &str) -> Program {
        Program {
            path: "/w/target/it's".into(),
            label: label.to_owned(),
            crate_name: "a_test".into(),
            dir: "/w".into(),
            needs_kernel: true,
        }
    }

    fn workspace() -> Workspace {
        Workspace { root: "/w".into(), target: "/w/target".into(), packages: Vec::new() }
    }

    #[test]
    fn the_code_of_the_program_is_reported_not_that_of_echo() {
        let program = program("p/t");
        let text = script_text(&[&program], &workspace());
        assert!(text.contains(r"'/w/target/it'\''s'"), "{text}");
        assert!(text.ends_with("code=$?; echo; echo \"@@end 0 $code\"\n"), "{text}");
    }

    #[test]
    fn each_program_gets_its_own_lines() {
        let ok = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        let output =
            format!("@@begin 0 p/a\n{ok}\n\n@@end 0 0\n@@begin 1 p/b\ntest x ... ok\n{ok}\n\n@@end 1 0\n");
        let row = row(1, &program("p/b"), &output);
        assert_eq!((row.counts.passed, row.counts.failed), (2, 0));
        assert!(row.passed.contains("a_test::x"));
    }

    #[test]
    fn programs_that_ended_before_the_machine_did_are_counted() {
        let output = "@@begin 0 p/a\n\n@@end 0 0\n@@begin 1 p/b\n\n@@end 1 101\n@@begin 2 p/c\ntest x ...";
        assert_eq!(ended(output), 2);
        assert_eq!(ended(""), 0);
    }

    #[test]
    fn a_program_that_died_or_never_began_or_skipped_is_a_failure() {
        let ok = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        for output in [
            String::new(),
            "@@begin 0 p/a\n".to_owned(),
            "@@begin 0 p/a\ntest x ... ok\n\n@@end 0 137\n".to_owned(),
            format!("@@begin 0 p/a\nSKIP a_test::x: needs root: why\n{ok}\n\n@@end 0 0\n"),
        ] {
            assert_eq!(row(0, &program("p/a"), &output).counts.failed, 1, "{output}");
        }
    }
}
