//! The leak check sees what is left, and only that.

use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use podrun_testkit::{LeakCheck, TempRoot, child, require};

const AT_ONCE: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(5);

/// Runs in a child, so that the other tests' descriptors and children are not there.
fn alone(body: impl FnOnce()) {
    child::run(body);
}

#[test]
fn nothing_done_is_nothing_left() {
    alone(|| LeakCheck::start().finish());
}

#[test]
fn an_open_descriptor_is_seen_until_it_is_closed() {
    alone(|| {
        let check = LeakCheck::start();
        let copy = std::io::stdin().as_fd().try_clone_to_owned().expect("dup");
        let left = check.leftovers(AT_ONCE);
        assert!(left.contains("fd "), "{left}");
        drop(copy);
        check.finish();
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a child process is what is looked for")]
fn a_running_child_and_then_its_zombie_are_seen() {
    alone(|| {
        let check = LeakCheck::start();
        let mut sleeper = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let left = check.leftovers(AT_ONCE);
        assert!(left.contains("(cat)"), "{left}");
        sleeper.kill().expect("our own child");
        // Not reaped yet, so it cannot vanish.
        let left = check.leftovers(AT_ONCE);
        assert!(left.contains(&format!("{} (cat)", sleeper.id())), "{left}");
        sleeper.wait().expect("our own child");
        drop(sleeper);
        assert_eq!(check.leftovers(SOON), "");
        check.finish();
    });
}

#[test]
fn a_namespace_that_was_entered_is_seen() {
    require!(root, netns);
    alone(|| {
        let check = LeakCheck::start();
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS).expect("unshare");
        let left = check.leftovers(AT_ONCE);
        assert!(left.contains("namespace") && left.contains("uts:["), "{left}");
        std::mem::forget(check);
    });
}

#[test]
fn a_cgroup_with_our_name_is_seen_and_one_without_the_marker_is_not() {
    require!(root, cgroup2);
    let mount = podrun_testkit::cgroup2_mount().expect("required above");
    let name = format!("podrun-testkit-{}", std::process::id());
    let check = LeakCheck::only(&name);
    let other = LeakCheck::only("podrun-something-else");
    std::fs::create_dir(mount.join(&name)).expect("mkdir");
    let left = check.leftovers(AT_ONCE);
    std::fs::remove_dir(mount.join(&name)).expect("rmdir");
    assert!(left.contains("cgroup") && left.contains(&name), "{left}");
    check.finish();
    other.finish();
}

#[test]
fn a_descriptor_with_the_marker_is_seen() {
    let root = TempRoot::new();
    let marker = root.path().file_name().expect("a name").to_str().expect("plain").to_owned();
    let check = LeakCheck::only(&marker);
    let file = std::fs::File::create(root.path().join("open")).expect("create");
    let left = check.leftovers(AT_ONCE);
    assert!(left.contains("/open"), "{left}");
    drop(file);
    check.finish();
    root.close();
}
