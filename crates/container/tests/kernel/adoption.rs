//! A new supervisor takes over.

use std::fs;

use podrun_sandbox::protocol::{ContainerState, ExitStatus};
use podrun_sandbox::{Adopted, Sandbox, SandboxError};
use podrun_testkit::require;

use crate::common::{Pod, content, eventually};

fn adopt(pod: &mut Pod) -> Vec<Adopted> {
    let (sandbox, known) =
        Sandbox::adopt(&pod.plan, &pod.cgroup_mount).expect("init answers").expect("there is a sandbox");
    pod.sandbox = Some(sandbox);
    known
}

#[test]
fn nothing_is_lost_between_two_supervisors() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let long = pod.shell("long", "trap 'exit 9' TERM; echo one; while :; do sleep 0.05; done");
    let short = pod.shell("short", "sleep 0.2; echo while nobody looked; exit 42");
    let broken = pod.setup("broken", &["/nosuch"]);
    let started = pod.start(&long);
    pod.request_start(&short);
    pod.request_start(&broken);
    // The supervisor dies: the connection is gone, whatever was on its way with it.
    pod.sandbox = None;
    eventually("the log is complete", || {
        fs::read_to_string(&short.log_path).is_ok_and(|log| log.contains("nobody looked"))
    });
    let ended = |known: &[Adopted]| {
        known.iter().all(|one| {
            matches!(
                (one.record.id == long.id, &one.record.state),
                (true, ContainerState::Running(_))
                    | (false, ContainerState::Exited { .. } | ContainerState::StartFailed(_))
            )
        })
    };
    eventually("all is told", || ended(&adopt(&mut pod)));
    let known = adopt(&mut pod);
    assert_eq!(known.len(), 3, "{known:?}");
    for one in &known {
        match &one.record.state {
            ContainerState::Running(again) => {
                assert_eq!(*again, started);
                let process = one.process.as_ref().expect("its pidfd");
                assert!(process.pid.is_some());
                process.pidfd.send_signal(0).expect("it lives");
            }
            ContainerState::Exited { exited, .. } => {
                assert_eq!((exited.id.as_str(), exited.status), (short.id.as_str(), ExitStatus::Code(42)));
            }
            ContainerState::StartFailed(failed) => assert_eq!(failed.id, broken.id),
            ContainerState::Starting => panic!("{one:?}"),
        }
    }
    pod.sandbox().forget(&short.id).expect("init is told");
    pod.sandbox().forget(&broken.id).expect("init is told");
    pod.sandbox().signal(&long.id, libc::SIGTERM).expect("init is told");
    let end = pod.wait(&long);
    assert_eq!((end.code(), content(&end.log).as_str()), (9, "one\n"));
    let ids: Vec<_> = adopt(&mut pod).into_iter().map(|one| one.record.id).collect();
    assert_eq!(ids, [long.id], "the others are forgotten");
    pod.remove();
}

#[test]
fn the_newest_supervisor_is_the_one() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mut old = pod.sandbox.take().expect("made");
    assert!(adopt(&mut pod).is_empty());
    assert_eq!(pod.output("echo new"), "new\n");
    eventually("the old one is hung up on", || matches!(old.recv(), Err(SandboxError::InitGone { .. })));
    drop(old);
    pod.remove();
}

#[test]
fn a_sandbox_that_is_not_there_is_not_adopted() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned();
    assert!(Sandbox::adopt(&pod.plan, &pod.cgroup_mount).expect("no error").is_none(), "never made");
    pod = pod.created();
    let sandbox = pod.sandbox.take().expect("made");
    sandbox.stop().expect("stopped");
    assert!(Sandbox::adopt(&pod.plan, &pod.cgroup_mount).expect("no error").is_none(), "its init is dead");
    pod.remove();
}
