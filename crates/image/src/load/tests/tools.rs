//! Other programs' images, and what other programs make of ours: every tree is the same to the last byte, mode, owner,
//! time, attribute and link.

use std::fs::File;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use podrun_testkit::child;

use super::*;
use crate::ArchiveFormat;
use crate::unpack::tests::random::{Listing, real};

#[expect(clippy::disallowed_methods, reason = "independent programs to compare with")]
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

fn skopeo(args: &[&str]) -> String {
    run("skopeo", &[&["--insecure-policy", "copy", "--quiet"][..], args].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Lists a tree without its root: tools differ in what they make of one that no layer lists.
fn tree(root: &Path) -> Listing {
    let mut listing = real::listing(File::open(root).expect("open").into());
    listing.0.remove(&b""[..]);
    listing
}

fn assert_same(wanted: &Listing, found: &Listing, case: &str) {
    assert!(wanted.0.len() > 5, "{case}: nothing to compare");
    if let Some(difference) = wanted.difference(found) {
        panic!("{case}: {difference}");
    }
}

/// Runs `body` with a mount of the image's layers, as a container sees them.
fn mounted(image: &crate::Image, at: &Path, body: impl FnOnce(&Path)) {
    let lower: Vec<&str> = image.layers.iter().rev().map(|layer| text(layer)).collect();
    drop(std::fs::create_dir(at));
    let none: Option<&str> = None;
    if let [one] = lower.as_slice() {
        body(Path::new(one));
        return;
    }
    // Below a directory of symbolic links: options may not be longer than a page.
    let options = format!("lowerdir={}", lower.join(":"));
    mount(none, at, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str())).expect("mount");
    body(at);
    umount2(at, MntFlags::empty()).expect("unmount");
}

/// Runs in a process with mounts of its own.
fn in_private_mounts(body: impl FnOnce()) {
    child::run(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
        body();
    });
}

/// Puts one of everything into a directory.
fn furnish(root: &Path) {
    let at = |path: &str| root.join(path);
    for dir in ["bin", "etc/deep/er", "tmp", "gone/below", "renewed", "srv", "closed"] {
        fs::create_dir_all(at(dir)).expect("create");
    }
    let mode =
        |path: &str, mode| fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).expect("chmod");
    fs::write(at("bin/su"), "set-id").expect("write");
    std::os::unix::fs::chown(at("bin/su"), Some(0), Some(42)).expect("chown");
    mode("bin/su", 0o6755);
    fs::hard_link(at("bin/su"), at("bin/su2")).expect("link");
    symlink("/bin/su", at("bin/absolute")).expect("symlink");
    symlink("../etc/deep", at("srv/relative")).expect("symlink");
    symlink("nowhere", at("dangling")).expect("symlink");
    nix::unistd::mkfifo(&at("srv/pipe"), Mode::S_IRWXU).expect("mkfifo");
    for path in ["gone/below/file", "renewed/old", "etc/deep/er/kept", "etc/removed", "becomes-dir"] {
        fs::write(at(path), path).expect("write");
    }
    std::os::unix::fs::chown(at("srv"), Some(1000), Some(65_534)).expect("chown");
    mode("tmp", 0o1777);
    mode("closed", 0o500);
    let sparse = File::create(at("sparse")).expect("create");
    sparse.set_len(1 << 20).and_then(|()| sparse.write_all_at(b"data", 500_000)).expect("write");
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    fs::write(at("bin/ping"), "caps").expect("write");
    let ping = File::open(at("bin/ping")).expect("open");
    crate::sys::fsetxattr(std::os::fd::AsFd::as_fd(&ping), c"security.capability", capability).expect("set");
}

/// Changes it as a second layer does.
fn change(root: &Path) {
    let at = |path: &str| root.join(path);
    fs::remove_dir_all(at("gone")).expect("remove");
    fs::remove_file(at("etc/removed")).expect("remove");
    fs::remove_dir_all(at("renewed")).expect("remove");
    fs::create_dir(at("renewed")).expect("create");
    fs::write(at("renewed/new"), "new").expect("write");
    fs::remove_file(at("becomes-dir")).expect("remove");
    fs::create_dir(at("becomes-dir")).expect("create");
    fs::write(at("becomes-dir/file"), "x").expect("write");
    fs::write(at("etc/deep/er/kept"), "changed").expect("write");
    fs::write(at("tmp/x"), "x").expect("write");
}

/// Makes an image with umoci in three layers, and returns the layout; the image is `three`.
fn umoci_image(dir: &Path) -> PathBuf {
    let (layout, bundle) = (dir.join("layout"), dir.join("bundle"));
    let image = |tag: &str| format!("{}:{tag}", text(&layout));
    run("umoci", &["init", "--layout", text(&layout)]);
    run("umoci", &["new", "--image", &image("three")]);
    run("umoci", &["unpack", "--image", &image("three"), text(&bundle)]);
    furnish(&bundle.join("rootfs"));
    let repack = ["repack", "--refresh-bundle", "--image", &image("three"), text(&bundle)];
    run("umoci", &repack);
    change(&bundle.join("rootfs"));
    run("umoci", &repack);
    fs::write(bundle.join("rootfs/third"), "layer").expect("write");
    run("umoci", &repack);
    layout
}

/// What umoci makes of an image, as a tree.
fn umoci_tree(dir: &Path, image: &str) -> Listing {
    let bundle = dir.join(format!("bundle-{}", Digest::of(image.as_bytes()).hex()));
    run("umoci", &["unpack", "--image", image, text(&bundle)]);
    tree(&bundle.join("rootfs"))
}

#[test]
fn what_umoci_and_skopeo_write_is_the_same_tree_here_and_after_saving() {
    require!(root, overlay, program("skopeo"), program("umoci"));
    let bench = Bench::new();
    let dir = bench.dir.path();
    let layout = umoci_image(dir);
    let source = format!("oci:{}:three", text(&layout));
    let wanted = umoci_tree(dir, &format!("{}:three", text(&layout)));
    let path = |name: &str| dir.join(name);
    let (zstd, archive, docker) = (path("zstd"), path("oci.tar"), path("docker.tar"));
    let zstd_target = format!("oci:{}:localhost/zstd:1", text(&zstd));
    skopeo(&["--dest-compress-format", "zstd", "--dest-compress", &source, &zstd_target]);
    skopeo(&[&source, &format!("oci-archive:{}:localhost/archive:1", text(&archive))]);
    skopeo(&[&source, &format!("docker-archive:{}:localhost/docker:1", text(&docker))]);
    in_private_mounts(|| {
        for (case, source) in
            [("layout", &layout), ("zstd", &zstd), ("oci-archive", &archive), ("docker-archive", &docker)]
        {
            let name = name(&format!("localhost/loaded/{case}:1"));
            let options = LoadOptions { name: Some(name.clone()), ..LoadOptions::default() };
            let image = bench.store.load(source, &options).expect(case).remove(0).image;
            assert!(image.diff_ids().len() >= 3, "{case}");
            mounted(&image, &path("mount"), |at| assert_same(&wanted, &tree(at), case));

            // What we write, skopeo reads and umoci unpacks.
            for (format, transport) in
                [(ArchiveFormat::Oci, "oci-archive"), (ArchiveFormat::Docker, "docker-archive")]
            {
                let case = format!("{case} saved as {transport}");
                let saved = path("saved.tar");
                let out = File::create(&saved).expect("create");
                bench.store.save(&[&name.to_string()], format, out).expect("save");
                let again = path(&format!("again-{}", Digest::of(case.as_bytes()).hex()));
                let from = format!("{transport}:{}:{name}", text(&saved));
                let gzip = ["--dest-compress", "--dest-compress-format", "gzip"];
                skopeo(&[&gzip[..], &[&from, &format!("oci:{}:again", text(&again))]].concat());
                assert_same(&wanted, &umoci_tree(dir, &format!("{}:again", text(&again))), &case);
                // And we read it again, as the same image.
                let fresh = Bench::new();
                let back = fresh.store.load(&saved, &LoadOptions::default()).expect("load").remove(0).image;
                assert_eq!((back.id, back.diff_ids()), (image.id, image.diff_ids()), "{case}");
            }
            let saved = path(&format!("dir-{case}"));
            bench.store.save_layout(&[&name.to_string()], &saved).expect("save");
            // umoci knows no zstd.
            if case != "zstd" {
                assert_same(&wanted, &umoci_tree(dir, &format!("{}:{name}", text(&saved))), case);
            }
        }
    });
    // The store itself is a layout that they read.
    let store = format!("oci:{}:localhost/loaded/layout:1", text(bench.store.path()));
    skopeo(&[&store, &format!("oci:{}:copy", text(&path("copy")))]);
}

#[test]
fn what_buildah_builds_is_the_same_tree_and_podman_takes_what_we_save() {
    require!(root, overlay, program("skopeo"), program("buildah"), program("podman"));
    let bench = Bench::new();
    let dir = bench.dir.path();
    let path = |name: &str| dir.join(name);
    let (root, run_root) = (path("containers"), path("containers-run"));
    let storage = ["--root", text(&root), "--runroot", text(&run_root), "--storage-driver", "vfs"];
    let buildah = |args: &[&str]| run("buildah", &[&storage[..], args].concat()).trim().to_owned();
    let podman = |args: &[&str]| run("podman", &[&storage[..], args].concat()).trim().to_owned();
    let source = path("context");
    fs::create_dir(&source).expect("create");
    furnish(&source);

    // Two layers, each for two platforms, in one index.
    buildah(&["manifest", "create", "both"]);
    for arch in [Platform::host().architecture.as_str(), "s390x"] {
        let container = buildah(&["from", "--arch", arch, "scratch"]);
        let mounted = buildah(&["mount", &container]);
        run("cp", &["-a", &format!("{}/.", text(&source)), &mounted]);
        buildah(&["umount", &container]);
        buildah(&["config", "--arch", arch, "--cmd", "/bin/su", &container]);
        let first = format!("localhost/first:{arch}");
        buildah(&["commit", "--rm", "--format", "oci", &container, &first]);
        let container = buildah(&["from", "--arch", arch, "--pull-never", &first]);
        let mounted = buildah(&["mount", &container]);
        change(Path::new(&mounted));
        buildah(&["umount", &container]);
        buildah(&["config", "--arch", arch, &container]);
        buildah(&["commit", "--rm", "--format", "oci", &container, &format!("localhost/both:{arch}")]);
        buildah(&[
            "manifest",
            "add",
            "--arch",
            arch,
            "both",
            &format!("containers-storage:localhost/both:{arch}"),
        ]);
    }
    let layout = path("both-layout");
    buildah(&["manifest", "push", "--all", "both", &format!("oci:{}:localhost/both:1", text(&layout))]);
    let image = bench.store.load(&layout, &LoadOptions::default()).expect("load").remove(0).image;
    assert_eq!(image.references, [name("localhost/both:1")]);
    assert_eq!(image.config.architecture, Platform::host().architecture);
    // A commit drops fractions of seconds; what podman makes of it is what it is.
    let committed = format!("localhost/both:{}", image.config.architecture);
    let wanted = tree(Path::new(&podman(&["image", "mount", &committed])));
    podman(&["image", "umount", &committed]);
    in_private_mounts(|| mounted(&image, &path("mount"), |at| assert_same(&wanted, &tree(at), "buildah")));

    for (format, file) in [(ArchiveFormat::Oci, "saved-oci.tar"), (ArchiveFormat::Docker, "saved-docker.tar")]
    {
        let file = path(file);
        bench.store.save(&["localhost/both:1"], format, File::create(&file).expect("create")).expect("save");
        podman(&["load", "--quiet", "--input", text(&file)]);
        let mounted = podman(&["image", "mount", "localhost/both:1"]);
        assert_same(&wanted, &tree(Path::new(&mounted)), text(&file));
        podman(&["image", "umount", "localhost/both:1"]);
        podman(&["image", "rm", "--force", "localhost/both:1"]);
    }
}
