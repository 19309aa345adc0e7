//! A forgotten bind mount fails the test and keeps what is mounted.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use podrun_testkit::{TempRoot, child, require};

#[test]
fn a_mount_left_in_a_temp_root_is_reported_and_its_content_stays() {
    require!(root);
    let precious = TempRoot::new();
    let file = precious.path().join("file");
    std::fs::write(&file, "precious").expect("write");
    let outcome = std::panic::catch_unwind(|| {
        child::run(|| {
            const NONE: Option<&str> = None;
            unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
            mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).expect("private");
            let root = TempRoot::new();
            std::fs::create_dir(root.path().join("m")).expect("mkdir");
            mount(Some(precious.path()), &root.path().join("m"), NONE, MsFlags::MS_BIND, NONE).expect("bind");
            root.close();
        });
    });
    let message = *outcome.expect_err("it must be reported").downcast::<String>().expect("a message");
    assert!(message.contains("still mounted below"), "{message}");
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "precious");
    precious.close();
    let kept = message.split("below ").nth(1).and_then(|rest| rest.split(',').next()).expect("a path");
    // The child's mount namespace is gone, so the directory is empty here.
    std::fs::remove_dir_all(kept).expect("the kept directory");
}
