//! Images as volumes of containers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use podrun_plan::model::{ContainerSetup, MountSource};
use podrun_sandbox::protocol::Stage;
use podrun_testkit::require;

use crate::common::{Pod, content, mount};

/// Makes a layer below the Pod's directory, of files with their content.
fn layer(pod: &Pod, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let layer = pod.root.path().join("layers").join(name);
    for (path, text) in files {
        let path = layer.join(path);
        fs::create_dir_all(path.parent().expect("below the layer")).expect("mkdir");
        fs::write(&path, text).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).expect("chmod");
    }
    layer
}

fn whiteout(path: &Path) {
    mknod(path, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).expect("mknod");
}

/// Adds the image of these layers at /v.
fn with_image(mut setup: ContainerSetup, layers: &[PathBuf], sub_path: Option<&str>) -> ContainerSetup {
    let mut plan = mount("image", MountSource::Image { layers: layers.to_owned() }, "/v");
    plan.read_only = true;
    plan.sub_path = sub_path.map(str::to_owned);
    setup.mounts = vec![plan];
    // What comes through two pipes has no order.
    setup.args[2] = format!("exec 2>&1; {}", setup.args[2]);
    setup
}

#[test]
fn they_show_the_layers_as_one_and_nothing_can_be_changed_or_executed() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let script = "#!/bin/sh\necho it ran\n";
    let lower =
        layer(&pod, "lower", &[("etc/a", "lower"), ("etc/b", "lower"), ("gone/c", ""), ("run", script)]);
    let upper = layer(&pod, "upper", &[("etc/b", "upper"), ("etc/d", "upper")]);
    whiteout(&upper.join("gone"));
    let both = [lower.clone(), upper];
    let look = "cd /v; find . -type f | sort; cat etc/a etc/b etc/d; echo; echo x > etc/a; rm etc/a; \
                mkdir new; touch /v; ./run; grep ' /v ' /proc/self/mountinfo | cut -d' ' -f6";
    let log = content(&pod.run(&with_image(pod.shell("two", look), &both, None)).log);
    let expected = "./etc/a\n./etc/b\n./etc/d\n./run\nlowerupperupper\n\
        /bin/sh: can't create etc/a: Read-only file system\nrm: can't remove 'etc/a': Read-only file system\n\
        mkdir: can't create directory 'new': Read-only file system\ntouch: /v: Read-only file system\n\
        /bin/sh: ./run: Permission denied\nro,nosuid,nodev,noexec,relatime\n";
    assert_eq!(log, expected);

    // A single layer is mounted as any number of them: a whiteout of nothing is not seen as a device.
    whiteout(&lower.join("etc/nothing"));
    let look = "ls /v; cat /v/etc/nothing; echo x > /v/etc/a";
    let log = content(&pod.run(&with_image(pod.shell("one", look), &[lower], None)).log);
    let expected = "etc\ngone\nrun\ncat: can't open '/v/etc/nothing': No such file or directory\n\
        /bin/sh: can't create /v/etc/a: Read-only file system\n";
    assert_eq!(log, expected);
    pod.remove();
}

#[test]
fn privilege_does_not_make_them_writable() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let image = layer(&pod, "image", &[("file", "kept")]);
    let script = "mount -o remount,rw /v; echo x > /v/file; cat /v/file";
    let mut setup = with_image(pod.shell("c", script), &[image], None);
    setup.security.privileged = true;
    setup.security.capabilities = u64::MAX;
    let log = content(&pod.run(&setup).log);
    assert!(log.contains("/bin/sh: can't create /v/file: Read-only file system"), "{log}");
    assert!(log.ends_with("kept"), "{log}");
    pod.remove();
}

#[test]
fn a_sub_path_is_found_in_the_image_and_never_made() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let lower = layer(&pod, "lower", &[("data/1/file", "one"), ("data/2/file", "two")]);
    let upper = layer(&pod, "upper", &[("data/2/more", "more")]);
    // Links lead where they would in the image.
    symlink("/data/2", upper.join("current")).expect("symlink");
    symlink("/../../..", upper.join("up")).expect("symlink");
    let layers = [lower, upper];
    for (index, (sub_path, script, expected)) in [
        ("data/1", "ls /v; cat /v/file", "file\none"),
        ("data/2/file", "cat /v; echo x > /v", "two/bin/sh: can't create /v: Read-only file system\n"),
        (
            "current",
            "ls /v; cat /v/*; mkdir /v/x",
            "file\nmore\ntwomoremkdir: can't create directory '/v/x': Read-only file system\n",
        ),
        ("up", "ls /v", "current\ndata\nup\n"),
        ("data/1", "grep ' /v ' /proc/self/mountinfo | cut -d' ' -f6", "ro,nosuid,nodev,noexec,relatime\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let setup = pod.shell(&format!("c{index}"), script);
        assert_eq!(
            content(&pod.run(&with_image(setup, &layers, Some(sub_path))).log),
            expected,
            "{sub_path}"
        );
    }
    for (index, sub_path) in ["none", "data/1/none", "data/1/file/none"].into_iter().enumerate() {
        let setup = with_image(pod.shell(&format!("m{index}"), "true"), &layers, Some(sub_path));
        let failure = pod.try_start(&setup).expect_err(sub_path).failure;
        assert_eq!(failure.stage, Stage::ImageSubPath);
        assert_eq!(failure.stage.reason(), "CreateContainerError");
        let text = format!("find subPath \"{sub_path}\" in the image of volume \"image\": ");
        assert!(failure.message.starts_with(&text), "{}", failure.message);
    }
    pod.remove();
}
