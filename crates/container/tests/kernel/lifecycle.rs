//! From the start of a container to its end.

mod common;

use common::{Pod, content};
use podrun_sandbox::protocol::{ExitStatus, Stage};
use podrun_testkit::require;

#[test]
fn a_container_runs_and_its_exit_code_and_log_are_kept() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = pod.shell("web", "echo hello; echo oops >&2; printf DONE; exit 7");
    let ended = pod.run(&setup);
    assert_eq!(ended.exited.status, ExitStatus::Code(7));
    let mut lines: Vec<String> =
        ended.log.lines().map(|line| line.split_once(' ').expect("a time").1.to_owned()).collect();
    lines.sort();
    assert_eq!(lines, ["stderr F oops", "stdout F hello", "stdout P DONE"]);
    let started = ended.started.expect("it was told");
    assert!(started.started_at <= ended.exited.finished_at);
    pod.remove();
}

#[test]
fn what_cannot_be_executed_is_told_in_plain_words() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let table = [
        ("nosuch", "exec \"nosuch\": executable file not found in $PATH"),
        ("/nosuch", "exec \"/nosuch\": no such file or directory"),
        ("/etc/passwd", "exec \"/etc/passwd\": permission denied"),
        ("/tmp", "exec \"/tmp\": permission denied"),
    ];
    for (index, (program, message)) in table.into_iter().enumerate() {
        let setup = pod.setup(&format!("c{index}"), &[program]);
        let failed = pod.try_start(&setup).expect_err(program);
        assert_eq!((failed.failure.message.as_str(), failed.exit_code), (message, 128));
        assert_eq!(failed.failure.stage, Stage::Exec);
        assert_eq!(failed.failure.stage.reason(), "RunContainerError");
    }
    assert_eq!(content(&pod.run(&pod.shell("ok", "echo fine")).log), "fine\n");
    pod.remove();
}
