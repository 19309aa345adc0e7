//! What other tools put into the real registry server is pulled as it is: the same tree, byte by byte.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use podrun_image::registry::{Client, Registries};
use podrun_image::{Image, Platform, PullOptions, Reference, Store};
use podrun_testkit::{Registry, TempRoot, require};

#[expect(clippy::disallowed_methods, reason = "the other tools that are compared with")]
fn run(program: &str, arguments: &[&str], dir: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(dir).output().expect(program);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything about a tree that an image keeps, in a form that can be compared: what GNU tar makes of it.
fn tree(root: &Path) -> Vec<u8> {
    let archive = root.with_extension("compared");
    let name = archive.display().to_string();
    let options =
        ["--create", "--format=pax", "--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*"];
    let times = ["--pax-option=exthdr.name=%d/%f,delete=atime,delete=ctime", "--file", &name, "."];
    run("tar", &[&options[..], &times[..]].concat(), root);
    let bytes = fs::read(&archive).expect("tar has written it");
    fs::remove_file(archive).expect("it is ours");
    bytes
}

/// Lists an archive, for people.
fn listed(dir: &Path, archive: &[u8]) -> String {
    fs::write(dir.join("listed.tar"), archive).expect("write");
    run("tar", &["--list", "-vv", "--full-time", "--numeric-owner", "--file", "listed.tar"], dir)
}

/// Mounts the layers of an image as a container has them, and looks at the tree.
fn tree_of(image: &Image, dir: &Path) -> Vec<u8> {
    let merged = dir.join("merged");
    fs::create_dir_all(&merged).expect("mkdir");
    fs::create_dir_all(dir.join("nothing")).expect("mkdir");
    let mut layers: Vec<String> =
        image.layers.iter().rev().map(|layer| layer.display().to_string()).collect();
    // overlayfs wants two, without an upper one.
    layers.push(dir.join("nothing").display().to_string());
    let options = format!("lowerdir={}", layers.join(":"));
    mount(Some("overlay"), &merged, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str()))
        .expect("overlay");
    let tree = std::panic::catch_unwind(|| tree(&merged));
    umount2(&merged, MntFlags::MNT_DETACH).expect("it is mounted");
    tree.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Makes an image of several layers with umoci in `img`, tagged `a`, and returns where umoci unpacked it.
fn image(dir: &Path) -> PathBuf {
    let umoci = |arguments: &[&str]| drop(run("umoci", arguments, dir));
    umoci(&["init", "--layout", "img"]);
    umoci(&["new", "--image", "img:a"]);
    umoci(&["unpack", "--image", "img:a", "bundle"]);
    let root = dir.join("bundle/rootfs");
    let write = |path: &str, text: &str, mode: u32| {
        fs::create_dir_all(root.join(path).parent().expect("a directory")).expect("mkdir");
        fs::write(root.join(path), text).expect("write");
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).expect("chmod");
    };
    write("etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644);
    write("usr/bin/su", "set-id", 0o4755);
    write("usr/share/doc/a", "a", 0o444);
    write("usr/share/doc/b", "b", 0o444);
    write("usr/share/old/x", "x", 0o600);
    write("usr/share/old/deep/y", "y", 0o600);
    write("var/big", &"incompressible? ".repeat(100_000), 0o640);
    fs::hard_link(root.join("usr/share/doc/a"), root.join("usr/share/doc/a-again")).expect("link");
    symlink("/etc/passwd", root.join("usr/absolute")).expect("symlink");
    symlink("../../etc/passwd", root.join("usr/relative")).expect("symlink");
    std::os::unix::fs::chown(root.join("etc/passwd"), Some(1000), Some(2000)).expect("chown");
    nix::unistd::mkfifo(&root.join("var/fifo"), nix::sys::stat::Mode::from_bits_truncate(0o620))
        .expect("fifo");
    umoci(&["repack", "--image", "img:a", "bundle"]);
    // A file goes, a directory goes and comes again with something else in it, one changes its mode.
    fs::remove_file(root.join("usr/share/doc/b")).expect("remove");
    fs::remove_dir_all(root.join("usr/share/old")).expect("remove");
    write("usr/share/old/new", "new", 0o644);
    fs::set_permissions(root.join("var"), fs::Permissions::from_mode(0o700)).expect("chmod");
    umoci(&["repack", "--image", "img:a", "--refresh-bundle", "bundle"]);
    write("usr/share/doc/c", "c", 0o644);
    umoci(&["repack", "--image", "img:a", "bundle"]);
    umoci(&["config", "--image", "img:a", "--config.cmd", "su", "--config.env", "A=b"]);
    umoci(&["unpack", "--image", "img:a", "unpacked"]);
    dir.join("unpacked/rootfs")
}

fn pull(dir: &Path, registry: &Registry, name: &str) -> Image {
    let store = Store::open(&dir.join("store")).expect("open");
    let client = Client::new(Registries::default().with_plain_http(&registry.name()));
    let reference: Reference = format!("{}/{name}", registry.name()).parse().expect("valid");
    store.pull_blocking(&client, &reference, &PullOptions::default()).expect("pulled").image
}

#[test]
fn every_way_in_which_skopeo_pushes_gives_the_tree_that_umoci_unpacks() {
    require!(root, overlay, program("docker-registry"), program("skopeo"), program("umoci"), program("tar"));
    let root = TempRoot::new();
    let dir = root.path();
    let expected = tree(&image(dir));
    let mut registry = Registry::start(&dir.join("registry"));
    for (name, options) in [
        ("gzip", &["--format", "oci"][..]),
        ("zstd", &["--format", "oci", "--dest-compress-format", "zstd"]),
        ("docker", &["--format", "v2s2"]),
    ] {
        let to = format!("docker://{}/team/{name}:1", registry.name());
        let mut arguments = vec!["copy", "--quiet", "--dest-tls-verify=false"];
        arguments.extend(options);
        arguments.extend(["oci:img:a", &to]);
        run("skopeo", &arguments, dir);
        registry.answered();
        let place = dir.join(name);
        fs::create_dir(&place).expect("mkdir");
        let image = pull(&place, &registry, &format!("team/{name}:1"));
        let found = tree_of(&image, &place);
        if found != expected {
            fs::write(dir.join("expected"), listed(dir, &expected)).expect("write");
            fs::write(dir.join("found"), listed(dir, &found)).expect("write");
            let difference = run("sh", &["-c", "diff expected found || true"], dir);
            panic!("{name}: the trees differ:\n{difference}");
        }
        assert_eq!(image.config.cmd, ["su"], "{name}");
        // Each part once, and nothing else.
        let asked = registry.answered();
        assert_eq!(asked.len(), 2 + image.diff_ids().len(), "{name}: {asked:?}");
    }
    drop(registry);
    root.close();
}

#[test]
fn of_an_index_that_skopeo_pushes_this_machine_s_image_is_pulled() {
    require!(root, program("docker-registry"), program("skopeo"), program("umoci"));
    let root = TempRoot::new();
    let dir = root.path();
    for architecture in ["s390x", &Platform::host().architecture] {
        let layout = format!("img-{architecture}");
        run("umoci", &["init", "--layout", &layout], dir);
        let tag = format!("{layout}:a");
        run("umoci", &["new", "--image", &tag], dir);
        run("umoci", &["config", "--image", &tag, "--architecture", architecture], dir);
        let bundle = format!("bundle-{architecture}");
        run("umoci", &["unpack", "--image", &tag, &bundle], dir);
        fs::write(dir.join(&bundle).join("rootfs/architecture"), architecture).expect("write");
        run("umoci", &["repack", "--image", &tag, &bundle], dir);
    }
    let registry = Registry::start(&dir.join("registry"));
    // skopeo pushes the parts, and the index is put above them as `docker manifest push` does it.
    let mut manifests = Vec::new();
    for architecture in ["s390x", &Platform::host().architecture] {
        let to = format!("docker://{}/team/app:{architecture}", registry.name());
        let from = format!("oci:img-{architecture}:a");
        run("skopeo", &["copy", "--quiet", "--dest-tls-verify=false", &from, &to], dir);
        let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &to], dir);
        let digest = run("sh", &["-c", &format!("printf %s '{raw}' | sha256sum | cut -d' ' -f1")], dir);
        manifests.push(serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", digest.trim()), "size": raw.len(),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    let digest = registry.push_manifest("team/app", "all", media_type, index.to_string().as_bytes());
    let image = pull(dir, &registry, "team/app:all");
    assert_eq!(image.config.architecture, Platform::host().architecture);
    assert_eq!(image.pulled[0].digest(), Some(digest.as_str()));
    let file = image.layers.last().expect("a layer").join("architecture");
    assert_eq!(fs::read_to_string(file).expect("unpacked"), Platform::host().architecture);
    drop(registry);
    root.close();
}
