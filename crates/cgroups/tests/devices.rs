//! The device filter, as the kernel applies it.

mod common;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;

use common::{Child, TestCgroup};
use nix::sys::wait::WaitStatus;
use podrun_cgroups::Cgroup;
use podrun_cgroups::devices::{CONTAINER_DEVICES, DeviceFilter, DeviceRule, MKNOD_ANYTHING, attached};
use podrun_testkit::require;

const OPEN_NULL: i32 = 1;
const OPEN_KMSG: i32 = 2;
const MAKE_NULL: i32 = 4;
const MAKE_KMSG: i32 = 8;

/// Returns what a process in `cgroup` may do, as a set of the bits above.
fn allowed(cgroup: &Cgroup) -> i32 {
    let dir = tempfile::tempdir().unwrap();
    let node = |name: &str| CString::new(dir.path().join(name).as_os_str().as_bytes()).unwrap();
    let (null, kmsg) = (node("null"), node("kmsg"));
    let open = |path: &std::ffi::CStr, flags| {
        // SAFETY: open is async-signal-safe, and the path is a C string that outlives the call.
        unsafe { libc::open(path.as_ptr(), flags) >= 0 }
    };
    let make = |path: &CString, minor| {
        // SAFETY: mknod is async-signal-safe, and the path is a C string that outlives the call.
        unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(1, minor)) == 0 }
    };
    let mut child = Child::in_cgroup(cgroup, |_| {
        let can = |allowed: bool, bit| if allowed { bit } else { 0 };
        can(open(c"/dev/null", libc::O_RDWR), OPEN_NULL)
            | can(open(c"/dev/kmsg", libc::O_RDONLY | libc::O_NONBLOCK), OPEN_KMSG)
            | can(make(&null, 3), MAKE_NULL)
            | can(make(&kmsg, 11), MAKE_KMSG)
    });
    match child.wait() {
        WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_listed_devices_can_be_used() {
    require!(root, cgroup2, cap("SYS_ADMIN"));
    let test = TestCgroup::new();
    let everything = OPEN_NULL | OPEN_KMSG | MAKE_NULL | MAKE_KMSG;
    assert_eq!(allowed(&test.cgroup), everything, "without a filter");

    let filter = DeviceFilter::load(&CONTAINER_DEVICES).unwrap();
    filter.attach(&test.cgroup).unwrap();
    assert_eq!(allowed(&test.cgroup), OPEN_NULL | MAKE_NULL);
    assert_eq!(attached(&test.cgroup).unwrap().len(), 1);

    let below = test.cgroup.create_child("below").unwrap();
    assert_eq!(allowed(&below), OPEN_NULL | MAKE_NULL, "descendants are filtered too");
    let allow_all = DeviceRule { access: podrun_cgroups::devices::DeviceAccess::ALL, ..MKNOD_ANYTHING };
    DeviceFilter::load(&[allow_all]).unwrap().attach(&below).unwrap();
    assert_eq!(allowed(&below), OPEN_NULL | MAKE_NULL, "and cannot widen it");

    filter.detach(&test.cgroup).unwrap();
    assert_eq!(allowed(&test.cgroup), everything);
    assert!(attached(&test.cgroup).unwrap().is_empty());
}

#[test]
fn a_filter_outlives_its_handle() {
    require!(root, cgroup2, cap("SYS_ADMIN"));
    let test = TestCgroup::new();
    let rules: Vec<DeviceRule> = CONTAINER_DEVICES.into_iter().chain([MKNOD_ANYTHING]).collect();
    DeviceFilter::load(&rules).unwrap().attach(&test.cgroup).unwrap();
    assert_eq!(allowed(&test.cgroup), OPEN_NULL | MAKE_NULL | MAKE_KMSG);
    assert_eq!(attached(&test.cgroup).unwrap().len(), 1);
}

#[test]
fn failures_name_the_cgroup() {
    require!(root, cgroup2, cap("SYS_ADMIN"));
    let dir = tempfile::tempdir().unwrap();
    let no_cgroup = Cgroup::open_unchecked_fs(dir.path()).unwrap();
    let filter = DeviceFilter::load(&[]).unwrap();
    let error = filter.attach(&no_cgroup).unwrap_err();
    assert_eq!(error.to_string(), format!("attach the device filter of {}", dir.path().display()));
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    assert!(filter.detach(&TestCgroup::new().cgroup).unwrap_err().is_gone());
}
