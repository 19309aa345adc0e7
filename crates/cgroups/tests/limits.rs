//! Limits that the kernel enforces. They need controllers, which a hybrid host keeps in cgroup v1.

mod common;

use std::time::Duration;

use common::{Child, TestCgroup, soon};
use nix::sys::wait::WaitStatus;
use podrun_cgroups::resources::{
    Limits, Policy, QosClass, Requests, Swap, Values, apply, container_values, group_values, verify,
};
use podrun_cgroups::{Cgroup, Controllers, CountLimit, CpuMax, Error, Hierarchy, Limit, Micros};
use podrun_testkit::require;

const MI: u64 = 1 << 20;

/// A cgroup below the test's own that has `controllers`.
fn with_controllers(test: &TestCgroup, controllers: impl Into<Controllers>) -> Cgroup {
    let controllers = controllers.into();
    Hierarchy::find().unwrap().open_root().unwrap().enable(controllers).unwrap();
    test.cgroup.ensure_path_with("limited", controllers).unwrap()
}

#[test]
fn values_of_a_container_are_written_and_read_back() {
    require!(root, cgroup2, controller("cpu"), controller("memory"), controller("pids"));
    let test = TestCgroup::new();
    let requests = Requests { millicores: Some(250), memory: Some(64 * MI) };
    // One byte more than whole pages: the kernel rounds down, and that is no mismatch.
    let limits = Limits { millicores: Some(500), memory: Some(128 * MI + 1), ..Limits::default() };
    let mut policy = Policy::new(QosClass::Burstable);
    let group = group_values(&requests, &limits, Some(64), &policy);
    let cgroup = with_controllers(&test, group.controllers());
    apply(&cgroup, &group).unwrap();
    assert_eq!(cgroup.pids().max().unwrap(), CountLimit::Count(64));

    policy.swap = cgroup.memory().swap_max().unwrap().map(|_| Swap::None);
    let container = container_values(&requests, &limits, &policy);
    apply(&cgroup, &container).unwrap();
    assert_eq!(cgroup.cpu().weight().unwrap().get(), 35);
    let half = CpuMax { quota: Some(Micros(50_000)), period: CpuMax::DEFAULT_PERIOD };
    assert_eq!(cgroup.cpu().max().unwrap(), half);
    assert_eq!(cgroup.memory().max().unwrap(), Limit::Bytes(128 * MI));
    assert!(cgroup.memory().oom_group().unwrap());

    cgroup.write("cpu.weight", "77").unwrap();
    let mismatches = verify(&cgroup, &container).unwrap();
    assert_eq!(mismatches.len(), 1);
    assert_eq!((mismatches[0].wrote.as_str(), mismatches[0].read.as_str()), ("35", "77"));
}

#[test]
fn a_value_the_kernel_refuses_is_named() {
    require!(root, cgroup2, controller("pids"));
    let test = TestCgroup::new();
    let cgroup = with_controllers(&test, podrun_cgroups::Controller::Pids);
    let error = apply(&cgroup, &Values::from_iter([("pids.max", "-5")])).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn forks_beyond_pids_max_fail_and_tell() {
    require!(root, cgroup2, controller("pids"));
    let test = TestCgroup::new();
    let cgroup = with_controllers(&test, podrun_cgroups::Controller::Pids);
    cgroup.pids().set_max(CountLimit::Count(1)).unwrap();
    let events = cgroup.pids_events_fd().unwrap();
    let before = events.read().unwrap().max;
    let mut child = Child::in_cgroup(&cgroup, |_| {
        // SAFETY: fork and _exit are async-signal-safe.
        match unsafe { libc::fork() } {
            -1 => 1,
            // SAFETY: as above.
            0 => unsafe { libc::_exit(0) },
            _ => 2,
        }
    });
    assert!(matches!(child.wait(), WaitStatus::Exited(_, 1)));
    let after = events.wait_until("max", soon(), |now| now.max > before).unwrap();
    assert_eq!(after.max, before + 1);
}

#[test]
fn the_oom_killer_takes_the_group_and_tells() {
    require!(root, cgroup2, controller("memory"));
    let test = TestCgroup::new();
    let cgroup = with_controllers(&test, podrun_cgroups::Controller::Memory);
    let limits = Limits { memory: Some(8 * MI), ..Limits::default() };
    let mut values = container_values(&Requests::default(), &limits, &Policy::new(QosClass::Burstable));
    values = values.iter().filter(|(file, _)| file.starts_with("memory.")).collect();
    if cgroup.memory().swap_max().unwrap().is_some() {
        values.set("memory.swap.max", "0");
    }
    apply(&cgroup, &values).unwrap();
    let events = cgroup.memory_events_fd().unwrap();
    assert_eq!(events.read().unwrap().oom_kill, 0);
    let mut bystander = Child::idle(&cgroup);
    let mut eater = Child::in_cgroup(&cgroup, |_| {
        let size = 64 << 20;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: a new anonymous mapping touches no memory that exists; mmap makes a system call and nothing else.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_WRITE, flags, -1, 0) };
        // MAP_POPULATE gives up silently, so every page is touched too.
        for page in (0..size).step_by(4096) {
            // SAFETY: the mapping is `size` bytes and writable.
            unsafe { map.cast::<u8>().wrapping_add(page).write_volatile(1) };
        }
        0
    });
    assert!(eater.was_killed() && bystander.was_killed());
    let after = events.wait_until("oom_kill", soon(), |now| now.oom_kill > 0).unwrap();
    assert!(after.oom_kill >= 2 && after.oom_group_kill >= 1, "{after:?}");
    assert!(cgroup.memory().peak().unwrap().is_none_or(|peak| peak <= 9 * MI));
}

#[test]
fn cpu_max_throttles() {
    require!(root, cgroup2, controller("cpu"));
    let test = TestCgroup::new();
    let cgroup = with_controllers(&test, podrun_cgroups::Controller::Cpu);
    cgroup.cpu().set_max(CpuMax { quota: Some(Micros(5_000)), period: Micros(50_000) }).unwrap();
    let mut child = Child::in_cgroup(&cgroup, |gate| {
        let mut work = 0_u64;
        while work < 200_000_000 {
            work = std::hint::black_box(work + 1);
        }
        gate.answer();
        0
    });
    // At a tenth of a CPU the work takes seconds; when it is done does not matter, only that it was slowed down.
    child.answered(Duration::from_secs(2));
    assert!(cgroup.cpu().stat().unwrap().throttled_periods > 0);
}

#[test]
fn reclaim_takes_back_page_cache() {
    require!(root, cgroup2, controller("memory"), kernel(5, 19));
    let test = TestCgroup::new();
    let cgroup = with_controllers(&test, podrun_cgroups::Controller::Memory);
    let _child = Child::idle(&cgroup);
    match cgroup.memory().reclaim(1 << 40) {
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}"),
        Ok(()) => panic!("nothing has a tebibyte to give back"),
    }
}

#[test]
fn huge_pages_are_limited_by_size() {
    require!(root, cgroup2, controller("hugetlb"));
    let test = TestCgroup::new();
    let cgroup = with_controllers(&test, podrun_cgroups::Controller::Hugetlb);
    let sizes = cgroup.hugetlb().sizes().unwrap();
    let policy = Policy { huge_page_sizes: sizes.clone(), ..Policy::new(QosClass::Burstable) };
    let huge_pages = sizes.iter().map(|size| (*size, size.bytes() * 3 / 2)).collect();
    let limits = Limits { huge_pages, ..Limits::default() };
    let values: Values = group_values(&Requests::default(), &limits, None, &policy)
        .iter()
        .filter(|(file, _)| file.starts_with("hugetlb."))
        .collect();
    apply(&cgroup, &values).unwrap();
    for size in sizes {
        assert_eq!(cgroup.hugetlb().max(size).unwrap(), Limit::Bytes(size.bytes()), "rounded down");
        assert_eq!(cgroup.hugetlb().current(size).unwrap(), 0);
        assert_eq!(cgroup.hugetlb().events(size).unwrap().max, 0);
    }
}
