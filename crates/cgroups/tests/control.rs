//! Kill, freeze, events, pressure and removal, as the kernel does them.

mod common;

use std::time::{Duration, Instant};

use common::{Child, TestCgroup, soon};
use podrun_cgroups::{Error, PressureKind, PressureResource, PressureThreshold};
use podrun_testkit::require;

#[test]
fn kill_reaches_descendants_and_nobody_else() {
    require!(root, cgroup2, kernel(5, 14));
    let test = TestCgroup::new();
    let target = test.cgroup.create_child("target").unwrap();
    let mut inside = [Child::idle(&target), Child::idle(&target.ensure_path("a/b").unwrap())];
    let mut outside = Child::in_cgroup(&test.cgroup, |gate| {
        gate.wait();
        7
    });
    target.kill().unwrap();
    target.wait_empty(soon()).unwrap();
    assert!(inside.iter_mut().all(Child::was_killed));
    outside.go();
    assert!(matches!(outside.wait(), nix::sys::wait::WaitStatus::Exited(_, 7)));
}

#[test]
fn freeze_stops_processes_and_thaw_lets_them_run() {
    require!(root, cgroup2);
    let test = TestCgroup::new();
    let mut child = Child::in_cgroup(&test.cgroup, |gate| {
        gate.wait();
        gate.answer();
        0
    });
    test.cgroup.freeze(soon()).unwrap();
    assert!(test.cgroup.events().unwrap().frozen);
    child.go();
    assert!(!child.answered(Duration::from_millis(50)), "a frozen process does nothing");
    test.cgroup.thaw(soon()).unwrap();
    assert!(child.answered(Duration::from_secs(20)));
}

#[test]
fn thaw_under_a_frozen_parent_ends_at_the_deadline() {
    require!(root, cgroup2);
    let test = TestCgroup::new();
    let inner = test.cgroup.create_child("inner").unwrap();
    let _child = Child::idle(&inner);
    inner.freeze(soon()).unwrap();
    test.cgroup.freeze(soon()).unwrap();
    let error = inner.thaw(Instant::now() + Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, Error::TimedOut { state: "frozen 0", .. }), "{error}");
}

#[test]
fn frozen_processes_can_be_killed() {
    require!(root, cgroup2, kernel(5, 14));
    let test = TestCgroup::new();
    let mut child = Child::idle(&test.cgroup);
    test.cgroup.freeze(soon()).unwrap();
    test.cgroup.kill().unwrap();
    test.cgroup.wait_empty(soon()).unwrap();
    assert!(child.was_killed());
}

#[test]
fn the_events_fd_tells_when_processes_come_and_go() {
    require!(root, cgroup2, kernel(5, 14));
    let test = TestCgroup::new();
    let cgroup = test.cgroup.create_child("watched").unwrap();
    let events = cgroup.events_fd().unwrap();
    assert!(!events.read().unwrap().populated);
    assert!(!events.wait(Instant::now()).unwrap(), "nothing has happened since");
    let mut child = Child::idle(&cgroup);
    assert!(events.wait(soon()).unwrap());
    assert!(events.read().unwrap().populated);
    cgroup.kill().unwrap();
    events.wait_until("populated 0", soon(), |now| !now.populated).unwrap();
    assert!(child.was_killed());
    cgroup.remove_tree(soon()).unwrap();
    assert!(events.read().unwrap_err().is_gone());
    cgroup.wait_empty(soon()).unwrap();
}

#[test]
fn a_pressure_trigger_fires_when_processes_wait_for_the_cpu() {
    require!(root, cgroup2, kernel(6, 5));
    let test = TestCgroup::new();
    let threshold =
        PressureThreshold::new(PressureKind::Some, Duration::from_millis(50), Duration::from_secs(2));
    let trigger = test.cgroup.pressure_trigger(PressureResource::Cpu, threshold).unwrap();
    // More of them than CPUs, so that some always wait.
    let spinners = std::thread::available_parallelism().map_or(1, usize::from) + 2;
    let _spinners: Vec<Child> = (0..spinners)
        .map(|_| {
            Child::in_cgroup(&test.cgroup, |_| {
                loop {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    assert!(trigger.wait(soon()).unwrap());
    assert!(test.cgroup.cpu().pressure().unwrap().some.total.0 > 0);
    test.cgroup.kill().unwrap();
    test.cgroup.wait_empty(soon()).unwrap();
}

#[test]
fn a_trigger_the_kernel_does_not_take_says_so() {
    require!(root, cgroup2);
    let test = TestCgroup::new();
    let threshold =
        PressureThreshold::new(PressureKind::Some, Duration::from_secs(5), Duration::from_secs(2));
    let error = test.cgroup.pressure_trigger(PressureResource::Cpu, threshold).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    assert!(error.to_string().starts_with("write \"some 5000000 2000000\" to "), "{error}");
}

#[test]
fn a_tree_with_frozen_and_unreaped_processes_is_removed() {
    require!(root, cgroup2, kernel(5, 14));
    let test = TestCgroup::new();
    let tree = test.cgroup.create_child("tree").unwrap();
    let deep = tree.ensure_path("a/b/c/d").unwrap();
    let frozen = tree.ensure_path("frozen").unwrap();
    let mut children = [Child::idle(&tree), Child::idle(&deep), Child::idle(&frozen)];
    frozen.freeze(soon()).unwrap();
    tree.remove_tree(soon()).unwrap();
    assert!(!tree.path().exists());
    // Nobody has waited for them yet: zombies do not keep a cgroup.
    assert!(children.iter_mut().all(Child::was_killed));
    tree.remove_tree(soon()).unwrap();
    test.cgroup.remove_child("tree", soon()).unwrap();
}

#[test]
fn a_tree_that_forks_is_removed() {
    require!(root, cgroup2, kernel(5, 14));
    let test = TestCgroup::new();
    let tree = test.cgroup.create_child("tree").unwrap();
    let mut child = Child::in_cgroup(&tree, |gate| {
        gate.answer();
        loop {
            // SAFETY: fork, _exit and waitpid are async-signal-safe.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: as above.
                unsafe { libc::_exit(0) }
            }
            // SAFETY: a null status is allowed; as above.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        }
    });
    assert!(child.answered(Duration::from_secs(20)));
    tree.remove_tree(soon()).unwrap();
    assert!(child.was_killed());
}
