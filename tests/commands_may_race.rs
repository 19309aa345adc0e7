//! Many commands at once: creations, deletions and looks at the same Pods.

mod common;

use common::{Podrun, Running, WAIT_FOR_TERM, pod, processes, sh};
use podrun_testkit::require;

fn all<T>(running: Vec<T>, mut finish: impl FnMut(T)) {
    running.into_iter().for_each(&mut finish);
}

#[test]
fn deletions_race_with_starts_and_with_each_other() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let names: Vec<String> = (0..20).map(|n| format!("pod-{n}")).collect();
    let paths: Vec<_> =
        names.iter().map(|name| podrun.write(&pod(name, &[sh("c", WAIT_FOR_TERM)]))).collect();
    for round in 0..3 {
        let mut runs: Vec<_> =
            paths.iter().map(|path| podrun.spawn(&["run", "-d", "--unenforced-limits=warn", path])).collect();
        let looks: Vec<_> = (0..4).map(|_| podrun.spawn(&["get", "pods"])).collect();
        if round > 0 {
            // Otherwise the deletions come while they start.
            all(std::mem::take(&mut runs), |run| drop(run.finish().ok()));
            names.iter().for_each(|name| podrun.wait_ready(name));
        }
        let deletions: Vec<_> =
            names.iter().chain(&names).map(|name| podrun.spawn(&["delete", "pod", name])).collect();
        all(runs, |run| {
            let run = run.finish();
            // It may have been deleted before it ran.
            let gone = run.code == 4 && run.stderr.contains("removed meanwhile");
            assert!(run.code == 0 || (gone && round == 0), "{} {}", run.code, run.stderr);
        });
        all(looks, |look| {
            let look = look.finish();
            assert_eq!((look.code, look.stderr.contains("warning")), (0, false), "{}", look.stderr);
        });
        all(deletions, |deletion: Running| {
            let deletion = deletion.finish();
            let gone = deletion.code == 4 && deletion.stderr.contains("not found");
            assert!(deletion.code == 0 || gone, "{} {}", deletion.code, deletion.stderr);
        });
        // A deletion that came too early has found nothing; the name is free after one that has not.
        podrun.podrun(&["delete", "--all"]).ok();
        assert_eq!(podrun.podrun(&["get", "pods", "-o", "name"]).ok(), "");
    }
    podrun.finish();
}

#[test]
fn a_name_is_free_as_soon_as_its_pod_is_deleted() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let path = podrun.write(&pod("again", &[sh("c", "trap 'exit 0' TERM; sleep 3600 & wait")]));
    let mut uids = std::collections::BTreeSet::new();
    for round in 0..20 {
        podrun.podrun(&["run", "-d", "--unenforced-limits=warn", &path]).ok();
        uids.insert(podrun.get("again", "{.metadata.uid}"));
        if round % 2 == 0 {
            podrun.wait_ready("again");
        }
        let twice: Vec<_> = (0..2).map(|_| podrun.spawn(&["delete", "pod", "again"])).collect();
        let mut codes: Vec<_> = twice.into_iter().map(|delete| delete.finish().code).collect();
        codes.sort_unstable();
        assert!(matches!(codes[..], [0, 0 | 4]), "{codes:?}");
    }
    assert_eq!(uids.len(), 20);
    podrun.finish();
}

#[test]
fn many_may_look_after_the_same_orphan() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&pod("orphan", &[sh("c", WAIT_FOR_TERM)]));
    podrun.wait_running("orphan", "c");
    for _ in 0..5 {
        processes::kill(&processes::supervisor(&podrun, &uid).expect("it lives"));
        let looks: Vec<_> = (0..12).map(|_| podrun.spawn(&["get", "pod", "orphan", "-o", "name"])).collect();
        all(looks, |look| {
            let look = look.finish();
            assert_eq!((look.code, look.stdout.as_str(), look.stderr.as_str()), (0, "pod/orphan\n", ""));
        });
    }
    // Twelve deletions of one whose supervisor is dead: all end well, or find nothing.
    processes::kill(&processes::supervisor(&podrun, &uid).expect("it lives"));
    let deletions: Vec<_> = (0..12).map(|_| podrun.spawn(&["delete", "pod", "orphan"])).collect();
    all(deletions, |deletion| {
        let deletion = deletion.finish();
        assert!(matches!(deletion.code, 0 | 4), "{} {}", deletion.code, deletion.stderr);
    });
    podrun.finish();
}
