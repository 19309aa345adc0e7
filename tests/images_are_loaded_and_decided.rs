//! Images come from archives and root file systems, and the pull policy decides what is used.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Output, Podrun, Running, WAIT_FOR_TERM, pod, sh, state, with};
use podrun_testkit::{BUSYBOX_REFERENCE, busybox_image_named, require};
use serde_json::{Value, json};

/// Runs a program of the host.
#[expect(clippy::disallowed_methods, reason = "makes archives that podrun has not made itself")]
fn busybox(arguments: &[&str], dir: &Path) -> Output {
    let mut command = Command::new("busybox");
    command.args(arguments).current_dir(dir);
    Running::start(command).finish()
}

fn sha256(path: &Path) -> String {
    let output = busybox(&["sha256sum", &path.display().to_string()], Path::new("/")).ok();
    output.split_whitespace().next().expect("a digest").to_owned()
}

/// Writes the busybox image as an OCI layout and returns its directory.
fn oci_layout(podrun: &Podrun, reference: &str) -> std::path::PathBuf {
    let unpacked = podrun.dir().join("unpacked");
    fs::create_dir(&unpacked).expect("mkdir");
    let archive = busybox_image_named(podrun.dir(), reference);
    busybox(&["tar", "-xf", &archive.display().to_string()], &unpacked).ok();
    let manifest: Value =
        serde_json::from_slice(&fs::read(unpacked.join("manifest.json")).expect("read")).expect("JSON");
    let layout = podrun.dir().join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("mkdir");
    let add = |path: &Path, kind: &str| {
        let digest = sha256(path);
        fs::copy(path, blobs.join(&digest)).expect("copy");
        let size = fs::metadata(path).expect("stat").len();
        json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{digest}"), "size": size })
    };
    let part = |name: &Value| unpacked.join(name.as_str().expect("a name"));
    let document = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add(&part(&manifest[0]["Config"]), "config.v1+json"),
        "layers": [add(&part(&manifest[0]["Layers"][0]), "layer.v1.tar")],
    });
    let path = podrun.dir().join("manifest.json");
    fs::write(&path, document.to_string()).expect("write");
    let name = json!({ "org.opencontainers.image.ref.name": reference });
    let entry = with(add(&path, "manifest.v1+json"), json!({ "annotations": name }));
    fs::write(layout.join("index.json"), json!({ "schemaVersion": 2, "manifests": [entry] }).to_string())
        .expect("write");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
    layout
}

#[test]
fn archives_and_layouts_are_loaded_and_removed() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let layout = oci_layout(&podrun, "localhost/from-layout:1");
    podrun.podrun(&["image", "load", &layout.display().to_string()]).ok();
    let tar = podrun.dir().join("layout.tar");
    busybox(&["tar", "-cf", &tar.display().to_string(), "."], &layout).ok();
    podrun.podrun(&["image", "load", &tar.display().to_string()]).ok();

    let list = podrun.podrun(&["image", "ls"]).ok();
    assert!(list.contains("localhost/busybox") && list.contains("localhost/from-layout"), "{list}");
    let json: Value =
        serde_json::from_str(&podrun.podrun(&["image", "ls", "-o", "json"]).ok()).expect("JSON");
    assert!(json.to_string().contains("localhost/from-layout:1"), "{json:#}");

    let image = json!({ "image": "localhost/from-layout:1" });
    podrun.run(&pod("layout", &[with(sh("c", "echo it runs"), image)])).ok();
    assert_eq!(podrun.logs("layout", "c"), "it runs\n");
    podrun.delete("layout");
    podrun.podrun(&["image", "rm", "localhost/from-layout:1"]).ok();
    podrun.podrun(&["image", "rm", "localhost/from-layout:1"]).fails(4);
    podrun.podrun(&["image", "rm", "--ignore-not-found", "localhost/from-layout:1"]).ok();
    assert!(!podrun.podrun(&["image", "ls"]).ok().contains("from-layout"));
    podrun.finish();
}

#[test]
fn a_root_file_system_becomes_an_image() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::empty();
    let rootfs = podrun.dir().join("rootfs");
    fs::create_dir_all(rootfs.join("bin")).expect("mkdir");
    let program = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    fs::copy(program.expect("required"), rootfs.join("bin/sh")).expect("copy");
    let tar = podrun.dir().join("rootfs.tar.gz");
    busybox(&["tar", "-czf", &tar.display().to_string(), "."], &rootfs).ok();
    for (index, source) in [&tar, &rootfs].into_iter().enumerate() {
        let name = format!("localhost/imported-{index}:1");
        let source = source.display().to_string();
        let config = ["--entrypoint", r#"["/bin/sh","-c"]"#, "--cmd", r#"["echo $GREETING; pwd; id -u"]"#];
        let more = ["-e", "GREETING=hello", "-w", "/srv/here", "-u", "1234"];
        podrun.podrun(&[&["image", "import", &source, &name][..], &config, &more].concat()).ok();
        let pod_name = format!("imported-{index}");
        podrun.run(&pod(&pod_name, &[json!({ "name": "c", "image": name })])).ok();
        assert_eq!(podrun.logs(&pod_name, "c"), "hello\n/srv/here\n1234\n");
    }
    podrun.finish();
}

#[test]
fn archives_come_from_standard_input() {
    require!(root, program("busybox"));
    let podrun = Podrun::new();
    let archive = podrun.dir().join("saved.tar");
    let path = archive.display().to_string();
    podrun.podrun(&["image", "save", BUSYBOX_REFERENCE, "-o", &path]).ok();
    let tar = podrun.dir().join("rootfs.tar");
    busybox(&["tar", "-cf", &tar.display().to_string(), "saved.tar"], podrun.dir()).ok();
    for (arguments, input) in [
        (["image", "load"].as_slice(), &archive),
        (&["image", "load", "-"], &archive),
        (&["image", "import", "-", "localhost/imported:1"], &tar),
    ] {
        let mut command = podrun.command(arguments);
        command.stdin(fs::File::open(input).expect("it was made"));
        Running::start(command).finish().ok();
    }
    podrun.podrun(&["image", "inspect", "localhost/imported:1"]).ok();
    podrun.podrun(&["image", "rm", "localhost/imported:1"]).ok();
    for file in [archive, tar] {
        fs::remove_file(file).expect("our own");
    }
    podrun.finish();
}

#[test]
fn an_image_in_use_is_kept() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&pod("user", &[sh("c", WAIT_FOR_TERM)]));
    podrun.wait_running("user", "c");
    let error = podrun.podrun(&["image", "rm", BUSYBOX_REFERENCE]).fails(5);
    assert!(error.contains("in use"), "{error}");
    podrun.delete("user");
    podrun.podrun(&["image", "rm", BUSYBOX_REFERENCE]).ok();
    podrun.finish();
}

#[test]
fn a_broken_archive_changes_nothing() {
    require!(root);
    let podrun = Podrun::empty();
    let path = podrun.dir().join("broken.tar");
    fs::write(&path, "this is no archive").expect("write");
    for (arguments, code) in
        [(["image", "load", &path.display().to_string()], 1), (["image", "load", "/no/such/file"], 4)]
    {
        let error = podrun.podrun(&arguments).fails(code);
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    assert_eq!(podrun.podrun(&["image", "ls", "-q"]).ok(), "");
    podrun.finish();
}

#[test]
fn the_pull_policy_and_the_name_decide() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let table = [
        (
            "never",
            "localhost/absent:1",
            Some("Never"),
            "ErrImageNeverPull",
            "is not present with pull policy of Never",
        ),
        ("invalid", "localhost/UPPER:1", None, "InvalidImageName", "couldn't parse image name"),
        ("absent", "127.0.0.1:1/absent:1", None, "ErrImagePull", "connect: Connection refused"),
        ("always", "127.0.0.1:1/absent:1", Some("Always"), "ErrImagePull", "connect: Connection refused"),
    ];
    for (name, image, policy, reason, text) in table {
        let mut container = with(sh("c", "true"), json!({ "image": image }));
        if let Some(policy) = policy {
            container["imagePullPolicy"] = json!(policy);
        }
        podrun.start(&pod(name, &[container]));
        podrun.wait_for(name, &state("c", "waiting.reason"), reason);
        let message = podrun.get(name, &state("c", "waiting.message"));
        assert!(message.contains(text), "{name}: {message}");
        assert_eq!(podrun.get(name, "{.status.phase}"), "Pending");
    }
    podrun.wait_for("absent", &state("c", "waiting.reason"), "ImagePullBackOff");
    let message = podrun.get("absent", &state("c", "waiting.message"));
    assert!(
        message.starts_with("Back-off pulling image \"127.0.0.1:1/absent:1\": ErrImagePull: "),
        "{message}"
    );
    let log = podrun.podrun(&["logs", "absent"]).fails(1);
    assert!(log.contains("trying and failing to pull image"), "{log}");
    podrun.finish();
}

#[test]
fn images_are_saved_inspected_checked_and_pruned_around_what_pods_use() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let image = |arguments: &[&str]| podrun.podrun(&[&["image"][..], arguments].concat());
    // A root that is not plain, and a layer's file in a directory that only the root lists.
    let root = podrun.dir().join("root");
    fs::create_dir_all(root.join("bin")).expect("mkdir");
    busybox(&["cp", "/bin/busybox", "bin/busybox"], &root).ok();
    busybox(&["chmod", "0711", "."], &root).ok();
    image(&[
        "import",
        &root.display().to_string(),
        "localhost/idle:1",
        "--cmd",
        r#"["/bin/busybox","true"]"#,
    ])
    .ok();
    image(&["tag", "localhost/idle:1", "localhost/used:1"]).ok();

    let archive = podrun.dir().join("saved.tar").display().to_string();
    for format in ["docker-archive", "oci-archive"] {
        image(&["save", "--format", format, "-o", &archive, "localhost/idle:1"]).ok();
        image(&["load", "--replace", "-i", &archive]).ok();
    }
    assert_eq!(image(&["save", "-o", &archive, "localhost/absent:1"]).code, 4);
    let command = image(&["inspect", "localhost/idle:1", "-o", "jsonpath={.config.cmd[*]}"]).ok();
    assert_eq!(command.trim_end(), "/bin/busybox true");
    let yaml = image(&["inspect", "localhost/idle:1", "-o", "yaml"]).ok();
    assert!(yaml.contains("workingDir:"), "{yaml}");

    // Its root looks as it was imported, and while it runs nobody can take it away.
    let container = with(
        sh("c", ""),
        json!({ "image": "localhost/used:1",
        "command": ["/bin/busybox", "sh", "-c", "busybox stat -c %a /; exec busybox sleep 1000"],
        "env": [{ "name": "PATH", "value": "/bin" }] }),
    );
    podrun.start(&pod("user", &[container]));
    podrun.wait_log_matching("user", "c", |line| line.contains("711"));
    let wide = image(&["ls", "-o", "wide"]).ok();
    assert!(wide.contains("default/user"), "{wide}");
    let removed = image(&["rm", "localhost/idle:1", "localhost/used:1"]);
    assert_eq!(removed.code, 5, "{removed:?}");
    assert!(removed.stderr.contains("in use by default/user"), "{removed:?}");
    let pruned = image(&["prune", "-a"]).ok();
    assert!(pruned.contains("localhost/busybox:test") && !pruned.contains("used"), "{pruned}");
    let checked = image(&["check"]).ok();
    assert!(checked.contains("0 findings"), "{checked}");
    podrun.delete("user");

    // Damage is found, told and repaired.
    let layer = image(&["inspect", "localhost/used:1", "-o", "jsonpath={.layers[0]}"]).ok();
    fs::write(Path::new(layer.trim_end()).join("bin/busybox"), "damaged").expect("write");
    assert_eq!(image(&["check", "--dry-run"]).code, 1);
    let repaired = image(&["check"]).ok();
    assert!(repaired.contains("repaired"), "{repaired}");
    let full = image(&["prune", "--disk-high", "0", "--disk-low", "0", "--min-age", "0s"]);
    assert!(full.stdout.contains("localhost/used:1"), "{full:?}");
    assert!(image(&["ls", "--no-headers"]).ok().is_empty());
    podrun.finish();
}
