//! `podrun cp` copies files to and from containers, and links in them lead to nothing of this machine.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::time::{Duration, UNIX_EPOCH};

use common::{Podrun, WAIT_FOR_TERM, container, pod, sh, with};
use podrun_testkit::require;
use serde_json::json;

/// A Pod whose container is that of a user, and has done this before it waits.
fn start(podrun: &Podrun, prepared: &str) {
    let user = json!({ "securityContext": { "runAsUser": 1000, "runAsGroup": 2000 } });
    podrun.start(&pod("web", &[with(sh("c", &format!("{prepared}; echo done; {WAIT_FOR_TERM}")), user)]));
    podrun.wait_log("web", "c", "done");
}

#[test]
fn trees_come_back_as_they_went() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    start(&podrun, "true");
    let source = podrun.dir().join("source");
    fs::create_dir_all(source.join("sub/empty")).expect("mkdir");
    fs::write(source.join("script"), "echo hello\n").expect("write");
    fs::set_permissions(source.join("script"), fs::Permissions::from_mode(0o4750)).expect("chmod");
    let time = UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    fs::File::options()
        .write(true)
        .open(source.join("script"))
        .and_then(|file| file.set_modified(time))
        .expect("touch");
    fs::write(source.join("sub/large"), vec![7; 3_000_000]).expect("write");
    symlink("../script", source.join("sub/link")).expect("link");
    let path = |name: &str| podrun.dir().join(name).display().to_string();

    // Into a directory that is there, and under a name of its own.
    podrun.podrun(&["cp", &path("source"), "web:/tmp"]).ok();
    podrun.podrun(&["cp", &path("source/script"), "default/web:/tmp/other"]).ok();
    let exec = |script: &str| podrun.podrun(&["exec", "web", "--", "sh", "-c", script]).ok();
    let stat = "cd /tmp; stat -c '%a %u %g %n' source source/script source/sub/large other; readlink source/sub/link";
    assert_eq!(
        exec(stat),
        "755 1000 2000 source\n750 1000 2000 source/script\n644 1000 2000 source/sub/large\n750 1000 2000 other\n\
         ../script\n"
    );
    assert_eq!(exec("cat /tmp/other; ls -A /tmp/source/sub/empty"), "echo hello\n");

    // A slash asks for a directory, which a directory can become and a file cannot.
    podrun.podrun(&["cp", &path("source/sub"), "web:/tmp/new/"]).ok();
    assert_eq!(exec("ls /tmp/new"), "empty\nlarge\nlink\n");
    podrun.podrun(&["cp", &path("source/script"), "web:/tmp/none/"]).fails(4);

    // What is in a directory, into a new one; a link is passed over, and that is told.
    let back = podrun.podrun(&["cp", "-c", "c", "pod/web:/tmp/source/.", &path("back")]);
    assert_eq!(back.stderr, "warning: skipping symbolic link: /tmp/source/./sub/link\n");
    assert_eq!(back.code, 0);
    let meta = fs::metadata(podrun.dir().join("back/script")).expect("it is there");
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.mtime()), (0o750, 0, 1_500_000_000));
    assert_eq!(fs::read(podrun.dir().join("back/sub/large")).expect("read"), vec![7; 3_000_000]);
    assert!(podrun.dir().join("back/sub/empty").is_dir() && !podrun.dir().join("back/sub/link").exists());

    // Over what is there, also where that is a mount.
    fs::write(podrun.dir().join("hosts"), "10.0.0.9 here\n").expect("write");
    podrun.podrun(&["cp", &path("hosts"), "web:/etc/hosts"]).ok();
    assert_eq!(exec("cat /etc/hosts"), "10.0.0.9 here\n");
    podrun.finish();
}

#[test]
fn links_lead_nowhere_else_and_nobody_waits_for_a_fifo() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let canary = podrun.dir().join("canary");
    fs::create_dir(&canary).expect("mkdir");
    fs::write(canary.join("secret"), "of this machine").expect("write");
    let at = canary.display();
    start(
        &podrun,
        &format!(
            "mkdir /tmp/d; cd /tmp/d; mkfifo fifo; ln -s {at}/secret link; ln -s {at} dir; ln -s {at}/new gone; echo x > file"
        ),
    );
    let path = |name: &str| podrun.dir().join(name).display().to_string();
    fs::write(podrun.dir().join("evil"), "changed").expect("write");
    for to in ["web:/tmp/d/dir/secret", "web:/tmp/d/dir/new"] {
        let failed = podrun.podrun(&["cp", &path("evil"), to]).fails(4);
        assert!(failed.contains("No such file or directory"), "{failed}");
    }
    // A link at the very place is replaced.
    podrun.podrun(&["cp", &path("evil"), "web:/tmp/d/gone"]).ok();
    let exec = |script: &str| podrun.podrun(&["exec", "web", "--", "sh", "-c", script]).ok();
    assert_eq!(exec("cat /tmp/d/gone; test -L /tmp/d/gone || echo a file"), "changeda file\n");

    for from in ["web:/tmp/d/link", "web:/tmp/d/dir"] {
        podrun.podrun(&["cp", from, &path("stolen")]).fails(4);
    }
    // What is at the target must not lead elsewhere either.
    fs::create_dir(podrun.dir().join("out")).expect("mkdir");
    symlink(canary.join("secret"), podrun.dir().join("out/file")).expect("link");
    let out = podrun.podrun(&["cp", "web:/tmp/d/.", &path("out")]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let mut skipped: Vec<&str> = out.stderr.lines().collect();
    skipped.sort_unstable();
    assert_eq!(
        skipped,
        ["FIFO: /tmp/d/./fifo", "symbolic link: /tmp/d/./dir", "symbolic link: /tmp/d/./link"]
            .map(|what| format!("warning: skipping {what}"))
    );
    assert_eq!(fs::read_to_string(podrun.dir().join("out/file")).expect("read"), "x\n");
    assert_eq!(fs::read_to_string(canary.join("secret")).expect("read"), "of this machine");
    assert_eq!(fs::read_dir(&canary).expect("read").count(), 1);
    podrun.finish();
}

#[test]
fn what_cannot_be_copied_is_told() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.run(&pod("done", &[container("c", &["true"])]));
    for (from, to, code, words) in [
        ("done:/etc", "/tmp", 1, "container c is not running"),
        ("nobody:/etc", "/tmp", 4, "pod \"default/nobody\" not found"),
        ("/etc/hostname", "/tmp/x", 2, "neither of both is in a pod"),
        ("a:/x", "b:/x", 2, "one of both must be a path of this machine"),
    ] {
        let failed = podrun.podrun(&["cp", from, to]).fails(code);
        assert_eq!(failed.lines().next(), Some(format!("error: {words}").as_str()));
    }
    podrun.finish();
}
