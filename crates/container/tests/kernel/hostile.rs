//! Images and containers that want more than they get.

use std::fs;
use std::os::unix::fs::symlink;

use podrun_namespaces::PidFd;
use podrun_plan::model::{MountSource, Owner, VolumeSourcePlan};
use podrun_sandbox::protocol::Stage;
use podrun_testkit::require;

use crate::common::{Pod, content, eventually, is_readable, mount};

/// Replaces an entry of the layer.
fn replace_by_link(pod: &Pod, name: &str, target: &str) {
    let path = pod.layer.join(name);
    drop(fs::remove_dir_all(&path));
    drop(fs::remove_file(&path));
    symlink(target, path).expect("symlink");
}

#[test]
fn the_kernels_own_directories_must_be_directories() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let canary = pod.root.path().join("canary");
    fs::create_dir(&canary).expect("mkdir");
    let up = format!("../../../../../../../..{}", canary.display());
    let mut index = 0;
    for name in ["proc", "sys", "dev"] {
        for target in [canary.to_str().expect("text"), up.as_str(), "/tmp", "nowhere", name] {
            replace_by_link(&pod, name, target);
            index += 1;
            let setup = pod.shell(&format!("c{index}"), "true");
            let failure = pod.try_start(&setup).expect_err(target).failure;
            assert_eq!(failure.stage, Stage::SystemMounts, "{failure:?}");
            assert_eq!(failure.message, format!("mount /{name}: it is a symbolic link in the image"));
        }
        fs::remove_file(pod.layer.join(name)).expect("unlink");
        fs::write(pod.layer.join(name), "").expect("write");
        index += 1;
        let failure = pod.try_start(&pod.shell(&format!("c{index}"), "true")).expect_err(name).failure;
        assert_eq!(failure.message, format!("mount /{name}: it is no directory in the image"));
        fs::remove_file(pod.layer.join(name)).expect("unlink");
    }
    // Missing ones are made.
    assert_eq!(pod.output("test -d /proc/self -a -c /dev/null -a -d /sys/class && echo ok"), "ok\n");
    assert_eq!(fs::read_dir(&canary).expect("there").count(), 0);
    pod.remove();
}

#[test]
fn targets_of_mounts_stay_inside_whatever_the_image_links_to() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let canary = pod.root.path().join("canary");
    fs::create_dir(&canary).expect("mkdir");
    fs::write(canary.join("file"), "untouched").expect("write");
    let (absolute, up) = (canary.display().to_string(), format!("../../../../../..{}", canary.display()));
    let source = pod.root.path().join("source");
    fs::create_dir(&source).expect("mkdir");
    fs::write(source.join("file"), "mounted\n").expect("write");
    let file = MountSource::Path(source.join("file"));
    for (index, target) in [absolute.as_str(), up.as_str()].into_iter().enumerate() {
        replace_by_link(&pod, "evil", target);
        replace_by_link(&pod, "evil-file", &format!("{target}/file"));
        let mut setup = pod.shell(&format!("c{index}"), "cat /evil/new/file /evil-file");
        setup.mounts = vec![
            mount("d", MountSource::Path(source.clone()), "/evil/new"),
            mount("f", file.clone(), "/evil-file"),
        ];
        assert_eq!(content(&pod.run(&setup).log), "mounted\nmounted\n", "{target}");
    }
    let left: Vec<_> =
        fs::read_dir(&canary).expect("there").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["file"]);
    assert_eq!(fs::read_to_string(canary.join("file")).expect("there"), "untouched");
    pod.remove();
}

#[test]
fn nothing_is_mounted_over_proc() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    for (name, target) in
        [("to-proc", "/proc"), ("to-self", "../proc/self"), ("to-sys", "/to-proc/sys/kernel")]
    {
        symlink(target, pod.layer.join(name)).expect("symlink");
    }
    let source = pod.root.path().join("source");
    fs::create_dir_all(source.join("self")).expect("mkdir");
    // Where the first write of a container's process to /proc would go.
    for link in ["oom_score_adj", "self/oom_score_adj"] {
        symlink("/sys/kernel/core_pattern", source.join(link)).expect("symlink");
    }
    let targets = ["/proc", "/proc/self", "//proc/./sys", "/", "/.", "/to-proc", "/to-self", "/to-sys"];
    for (index, target) in targets.into_iter().enumerate() {
        let mut setup = pod.shell(&format!("c{index}"), "true");
        setup.mounts = vec![mount("v", MountSource::Path(source.clone()), target)];
        let failure = pod.try_start(&setup).expect_err(target).failure;
        assert_eq!(failure.stage, Stage::Mounts, "{target}: {failure:?}");
        let why =
            if target.len() <= 2 { "the target must not be /" } else { "the target must not be in /proc" };
        assert_eq!(failure.message, format!("mount volume \"v\" at {target:?}: {why}"));
    }
    pod.remove();
}

#[test]
fn files_in_proc_that_show_the_containers_share_may_be_covered() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let source = pod.root.path().join("uptime");
    fs::write(&source, "1.00 1.00\n").expect("write");
    let mut setup = pod.shell("c", "cat /proc/uptime");
    setup.mounts = vec![mount("v", MountSource::Path(source), "/proc/uptime")];
    assert_eq!(content(&pod.run(&setup).log), "1.00 1.00\n");
    pod.remove();
}

#[test]
fn working_directory_and_program_cannot_be_descriptors_of_ours() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mut index = 0;
    for number in 0..24 {
        for suffix in ["", "/../.."] {
            index += 1;
            let mut setup = pod.shell(&format!("w{index}"), "pwd; ls");
            setup.cwd = format!("/proc/self/fd/{number}{suffix}");
            let failure = pod.try_start(&setup).expect_err(&setup.cwd).failure;
            assert_eq!(failure.stage, Stage::WorkingDir, "{failure:?}");
        }
        index += 1;
        let setup = pod.setup(&format!("p{index}"), &[&format!("/proc/self/fd/{number}/bin/sh")]);
        assert_eq!(pod.try_start(&setup).expect_err("no program").failure.stage, Stage::Exec);
    }
    pod.remove();
}

#[test]
fn a_working_directory_is_made_and_links_to_it_are_followed_inside() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    symlink("/srv/data", pod.layer.join("link")).expect("symlink");
    for (index, (cwd, expected)) in
        [("/a/b/c", "/a/b/c\n"), ("/link/x", "/srv/data/x\n")].into_iter().enumerate()
    {
        let mut setup = pod.setup(&format!("c{index}"), &["pwd", "-P"]);
        setup.cwd = cwd.to_owned();
        assert_eq!(content(&pod.run(&setup).log), expected);
    }
    pod.remove();
}

#[test]
fn user_files_that_are_no_files_are_refused() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let passwd = pod.layer.join("etc/passwd");
    fs::remove_file(&passwd).expect("unlink");
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let failure = pod.try_start(&pod.shell("fifo", "true")).expect_err("a pipe").failure;
    assert_eq!(failure.message, "read /etc/passwd: it is no regular file");

    fs::remove_file(&passwd).expect("unlink");
    fs::File::create(&passwd).expect("create").set_len(1 << 32).expect("sparse");
    let failure = pod.try_start(&pod.shell("huge", "true")).expect_err("4 GiB").failure;
    assert_eq!(failure.message, "read /etc/passwd: file too large");

    for (index, target) in ["/dev/zero", "/proc/self/fd/3", "/etc"].into_iter().enumerate() {
        fs::remove_file(&passwd).expect("unlink");
        symlink(target, &passwd).expect("symlink");
        let failure = pod.try_start(&pod.shell(&format!("l{index}"), "true")).expect_err(target).failure;
        assert_eq!(failure.stage, Stage::User, "{target}");
    }
    // A link that leads to a file of the host leads to one of the image instead.
    fs::remove_file(&passwd).expect("unlink");
    symlink(pod.root.path().join("canary"), &passwd).expect("symlink");
    fs::write(pod.root.path().join("canary"), "evil:x:0:0::/:\n").expect("write");
    let mut setup = pod.shell("link", "true");
    setup.image_user = "evil".to_owned();
    assert_eq!(pod.try_start(&setup).expect_err("nobody").failure.stage, Stage::User);
    pod.remove();
}

#[test]
fn the_init_program_is_reached_through_a_read_only_mount() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let pid = pod.sandbox().pidfd().pid().expect("readable").expect("it lives");
    let program = fs::File::open(format!("/proc/{pid}/exe")).expect("root may look");
    // While it runs the kernel refuses writers because it runs; afterwards it is the mount that does.
    let flags = nix::sys::statvfs::fstatvfs(&program).expect("readable").flags();
    assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
    drop(program);
    pod.remove();
}

#[test]
fn process_1_of_a_shared_pid_namespace_is_worth_nothing() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned().with_volume("memory", VolumeSourcePlan::Tmpfs { size: 1 << 20 });
    pod.plan.namespaces.pid = Owner::Pod;
    let mut pod = pod.created();
    let mut setup = pod.shell(
        "c",
        "ls /proc/1/root/ /proc/1/fd; cut -d' ' -f5 /proc/1/mountinfo; \
         grep -E '^(Uid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/1/status | tr -s '\\t ' ' '",
    );
    // CAP_SYS_PTRACE opens everything there is to see.
    setup.security.capabilities = u64::MAX >> 23;
    setup.security.seccomp = false;
    let none = "0000000000000000";
    let expected = format!(
        "/proc/1/fd:\n\n/proc/1/root/:\n/\nUid: 65535 65535 65535 65535\nGroups: \nCapInh: {none}\nCapPrm: {none}\n\
         CapEff: {none}\nCapBnd: {none}\nCapAmb: {none}\nNoNewPrivs: 1\nSeccomp: 2\n"
    );
    assert_eq!(content(&pod.run(&setup).log), expected);
    pod.remove();
}

#[test]
fn a_pod_ends_with_process_1_of_its_shared_pid_namespace() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned();
    pod.plan.namespaces.pid = Owner::Pod;
    let mut pod = pod.created();
    let setup = pod.shell("c", "sleep 1000");
    pod.start(&setup);
    let init = pod.sandbox().pidfd().pid().expect("readable").expect("it lives");
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).expect("readable");
    let reaper = children.split(' ').next().expect("the first child").parse().expect("a number");
    PidFd::open(reaper).and_then(|reaper| reaper.send_signal(libc::SIGKILL)).expect("killed");
    eventually("init ends", || is_readable(pod.sandbox().pidfd()));
    pod.remove();
}
