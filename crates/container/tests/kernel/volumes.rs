//! Volumes and files in containers.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use podrun_plan::model::{FilePlan, MountSource, VolumeSourcePlan};
use podrun_sandbox::protocol::Stage;
use podrun_spec::model::{HostPathType, MountPropagation, RecursiveReadOnly, TerminationMessagePolicy};
use podrun_testkit::require;

use crate::common::{Pod, chain, content, mount};

#[test]
fn containers_share_a_directory() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned();
    let path = pod.plan.data_dir.join("volumes/data");
    let mut pod = pod_with_directory(&mut pod);
    let source = || MountSource::Path(path.clone());
    let mut writer = pod.shell("writer", "echo hello > /data/deep/file; ls -ld /data | cut -c1-10");
    writer.mounts = vec![mount("data", source(), "/data")];
    writer.args[2] = "mkdir /data/deep; ".to_owned() + &writer.args[2];
    assert_eq!(content(&pod.run(&writer).log), "drwxrwxrwx\n");
    let mut reader = pod.shell("reader", "cat /here/sub/file; touch /here/sub/x 2>&1");
    let mut plan = mount("data", source(), "/here/sub");
    plan.sub_path = Some("deep".to_owned());
    plan.read_only = true;
    reader.mounts = vec![plan];
    assert_eq!(content(&pod.run(&reader).log), "hello\ntouch: /here/sub/x: Read-only file system\n");
    let options = "grep ' /data ' /proc/self/mountinfo | cut -d' ' -f6";
    let mut flags = pod.shell("flags", options);
    flags.mounts = vec![mount("data", source(), "/data")];
    let log = content(&pod.run(&flags).log);
    assert!(log.contains("nosuid") && log.contains("nodev"), "{log}");
    pod.remove();
}

fn pod_with_directory(pod: &mut Pod) -> Pod {
    let pod = std::mem::replace(pod, Pod::planned());
    let path = pod.plan.data_dir.join("volumes/data");
    pod.with_volume("data", VolumeSourcePlan::Directory { path }).created()
}

#[test]
fn memory_volumes_live_in_the_sandbox() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned().with_volume("mem", VolumeSourcePlan::Tmpfs { size: 1 << 20 }).created();
    let source = || MountSource::SandboxTmpfs("mem".to_owned());
    let mut a = pod.shell("a", "ls -ld /mem | cut -c1-10; echo kept > /mem/file; dd if=/dev/zero of=/mem/big bs=1M count=2 2>&1 | grep -o 'No space left'");
    a.mounts = vec![mount("mem", source(), "/mem")];
    assert_eq!(content(&pod.run(&a).log), "drwxrwxrwt\nNo space left\n");
    let mut b = pod.shell("b", "cat /m/file");
    b.mounts = vec![mount("mem", source(), "/m")];
    assert_eq!(content(&pod.run(&b).log), "kept\n");
    let mut c = pod.shell("c", "ls -ld /m | cut -c1-10");
    c.mounts = vec![mount("mem", source(), "/m")];
    c.mounts[0].sub_path = Some("made/for/me".to_owned());
    assert_eq!(content(&pod.run(&c).log), "drwxrwxrwx\n");

    let mut evil = pod.shell("evil", "ln -s / /m/root; ln -s ../../.. /m/up");
    evil.mounts = vec![mount("mem", source(), "/m")];
    pod.run(&evil);
    for (index, sub_path) in ["root", "root/etc", "up"].into_iter().enumerate() {
        let mut victim = pod.shell(&format!("victim{index}"), "ls /m");
        victim.mounts = vec![mount("mem", source(), "/m")];
        victim.mounts[0].sub_path = Some(sub_path.to_owned());
        let failure = pod.try_start(&victim).expect_err(sub_path).failure;
        assert_eq!(failure.stage, Stage::SubPath);
        assert_eq!(failure.stage.reason(), "CreateContainerConfigError");
        let text =
            format!("failed to prepare subPath for volumeMount \"mem\" of container \"victim{index}\": ");
        assert!(failure.message.starts_with(&text), "{}", failure.message);
    }
    pod.remove();
}

#[test]
fn a_sub_path_that_leads_out_is_refused_with_the_words_of_the_kubelet() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let volume = pod.plan.data_dir.join("volumes/v");
    fs::create_dir_all(&volume).expect("mkdir");
    symlink("/", volume.join("root")).expect("symlink");
    for sub_path in ["root", "root/etc", "../.."] {
        let mut setup = pod.shell("c", "true");
        setup.mounts = vec![mount("v", MountSource::Path(volume.clone()), "/v")];
        setup.mounts[0].sub_path = Some(sub_path.to_owned());
        let error = podrun_container::prepare(&setup, pod.sandbox()).expect_err(sub_path);
        assert_eq!(error.to_string(), "failed to prepare subPath for volumeMount \"v\" of container \"c\"");
        assert_eq!(error.reason(), "CreateContainerConfigError");
        assert!(!setup.dir.exists(), "what had been made is removed");
    }
    pod.remove();
}

#[test]
fn files_are_mounted_over_what_the_image_has_or_lacks() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned();
    symlink("../run/resolv.conf", pod.layer.join("etc/resolv.conf")).expect("symlink");
    let path = |name: &str| pod.plan.data_dir.join("files").join(name);
    for (name, content) in [("hosts", "127.0.0.1 localhost\n"), ("resolv.conf", "nameserver 192.0.2.1\n")] {
        let target = format!("/etc/{name}");
        pod.plan.files.push(FilePlan { target, path: path(name), content: content.to_owned() });
    }
    let mut pod = pod.created();
    let mut setup = pod.shell("c", "cat /etc/hosts /etc/resolv.conf /run/resolv.conf; echo mine >> /etc/hosts; echo last > /dev/termination-log");
    for file in &pod.plan.files {
        let mut plan = mount("", MountSource::Path(file.path.clone()), &file.target);
        plan.volume = None;
        setup.mounts.push(plan);
    }
    let mut words = mount("", MountSource::Path(setup.dir.join("termination-log")), "/dev/termination-log");
    words.volume = None;
    setup.mounts.push(words);
    setup.security.run_as_user = Some(0);
    let ended = pod.run(&setup);
    assert_eq!(content(&ended.log), "127.0.0.1 localhost\nnameserver 192.0.2.1\nnameserver 192.0.2.1\n");
    let hosts = fs::read_to_string(&pod.plan.files[0].path).expect("the file");
    assert_eq!(hosts, "127.0.0.1 localhost\nmine\n");
    let policy = TerminationMessagePolicy::File;
    let message =
        podrun_container::read_termination_message(&setup.dir, policy, ended.code(), &setup.log_path);
    assert_eq!(message.expect("readable"), "last\n");
    assert!(fs::read_link(pod.layer.join("etc/resolv.conf")).is_ok(), "the image is as it was");
    pod.remove();
}

#[test]
fn host_paths_are_shown_with_their_mounts() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let host = pod.root.path().join("host");
    fs::create_dir(&host).expect("mkdir");
    fs::write(host.join("file"), "host\n").expect("write");
    let missing = pod.root.path().join("missing/dir");
    let mut setup = pod.shell("c", "cat /h/file /f; ls -d /m; touch /m/made");
    setup.mounts = vec![
        mount("h", MountSource::Path(host.clone()), "/h"),
        mount("f", MountSource::Path(host.join("file")), "/f"),
        mount("m", MountSource::Path(missing.clone()), "/m"),
    ];
    setup.mounts[0].propagation = MountPropagation::HostToContainer;
    assert_eq!(content(&pod.run(&setup).log), "host\nhost\n/m\n");
    assert!(missing.join("made").exists(), "a missing hostPath without a type is made");
    pod.remove();
}

#[test]
fn read_only_covers_submounts_when_asked() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    // /dev has submounts everywhere; nothing is written that the test does not remove.
    let name = format!("{}.probe", pod.plan.uid);
    let script = format!("touch /d/shm/{name} 2>&1 && echo written; rm -f /d/shm/{name}");
    for (index, (recursive, expected)) in
        [(RecursiveReadOnly::Disabled, "written\n"), (RecursiveReadOnly::Enabled, "Read-only file system")]
            .into_iter()
            .enumerate()
    {
        if !fs::read_to_string("/proc/self/mountinfo").expect("readable").contains(" /dev/shm ") {
            break;
        }
        let mut setup = pod.shell(&format!("c{index}"), &script);
        setup.mounts = vec![mount("d", MountSource::Path("/dev".into()), "/d")];
        setup.mounts[0].read_only = true;
        setup.mounts[0].recursive_read_only = recursive;
        let log = content(&pod.run(&setup).log);
        assert!(log.contains(expected), "{recursive:?}: {log}");
    }
    pod.remove();
}

#[test]
fn a_volume_may_lie_in_another_and_order_does_not_matter() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned()
        .with_volume("a", VolumeSourcePlan::Tmpfs { size: 1 << 20 })
        .with_volume("b", VolumeSourcePlan::Tmpfs { size: 1 << 20 })
        .created();
    let mut setup = pod.shell("c", "touch /v/in-a /v/w/in-b; ls /v /v/w | tr '\\n' ' '");
    setup.mounts = vec![
        mount("b", MountSource::SandboxTmpfs("b".to_owned()), "/v/w"),
        mount("a", MountSource::SandboxTmpfs("a".to_owned()), "/v"),
    ];
    assert_eq!(content(&pod.run(&setup).log), "/v: in-a w  /v/w: in-b ");
    pod.remove();
}

#[test]
fn a_group_gets_a_memory_volume() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned().with_volume("mem", VolumeSourcePlan::Tmpfs { size: 1 << 20 });
    pod.plan.volumes[0].fs_group = Some(4321);
    let mut pod = pod.created();
    let mut setup = pod.shell("c", "touch /mem/x; stat -c %g /mem /mem/x; ls -ld /mem | cut -c1-10");
    setup.mounts = vec![mount("mem", MountSource::SandboxTmpfs("mem".to_owned()), "/mem")];
    setup.security.run_as_user = Some(1000);
    setup.security.supplemental_groups = vec![4321];
    assert_eq!(content(&pod.run(&setup).log), "4321\n4321\ndrwxrwsrwt\n");
    pod.remove();
}

#[test]
fn changes_of_the_root_stay_with_the_attempt() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    assert_eq!(pod.output("echo x > /etc/passwd; touch /new; ls /new"), "/new\n");
    assert_eq!(
        pod.output("ls /new 2>&1; grep -c root /etc/passwd"),
        "ls: /new: No such file or directory\n1\n"
    );
    let path = pod.plan.data_dir.join("containers");
    let mode = fs::metadata(&path).expect("there").mode();
    assert_eq!(fs::Permissions::from_mode(mode).mode() & 0o077, 0, "nobody else looks into containers");
    pod.remove();
}

#[test]
fn a_host_path_of_the_wrong_type_is_told() {
    require!(root);
    let pod = Pod::planned();
    let path = pod.root.path().join("nothing");
    let source = VolumeSourcePlan::HostPath { path: path.clone(), kind: HostPathType::Directory };
    let volume = podrun_plan::model::VolumePlan { name: "v".to_owned(), source, fs_group: None };
    let error = podrun_sandbox::volumes::prepare(&volume).expect_err("it is missing");
    assert_eq!(chain(&error), format!("hostPath type check failed: {} is not a directory", path.display()));
    pod.remove();
}
