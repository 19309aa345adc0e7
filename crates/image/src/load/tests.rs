use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use podrun_testkit::require;

use super::*;
use crate::Refusal;
use crate::testing::{TarFile, TestImage, gzip, to_tar, write_dir, zstd};

mod hostile;
mod tools;

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("store")).expect("a new store");
        Self { dir, store }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).expect("write");
        path
    }

    fn load(&self, bytes: &[u8]) -> Result<Vec<Loaded>> {
        self.store.load(&self.file("archive", bytes), &LoadOptions::default())
    }

    fn images(&self) -> Vec<crate::Image> {
        let list = self.store.list().expect("list");
        assert!(list.damaged.is_empty(), "{:?}", list.damaged);
        list.images
    }

    /// Lets somebody use the image.
    fn lease(&self, image: &crate::Image) {
        self.store.hold().and_then(|hold| hold.lease("somebody", image)).expect("lease");
    }

    fn release(&self) {
        self.store.release("somebody").expect("release");
    }

    fn prune(&self) -> Vec<Digest> {
        let pruned = self.store.prune(&crate::PruneOptions::default()).expect("prune");
        pruned.images.iter().map(|image| image.id).collect()
    }

    /// Files in the parts of the store that a failed load must not change.
    fn counts(&self) -> [usize; 3] {
        ["blobs/sha256", "layers", "tmp"]
            .map(|part| fs::read_dir(self.store.path().join(part)).expect("read").count())
    }
}

fn layer(text: &str) -> Vec<u8> {
    let mut tar = TarFile::new();
    tar.dir("etc").file("etc/name", text);
    tar.finish()
}

fn three_layers() -> TestImage {
    TestImage::new(&[layer("one"), layer("two"), layer("three")])
}

fn name(text: &str) -> Reference {
    text.parse().expect("valid")
}

/// The error of a load that must leave the store as it was.
fn failure(bytes: &[u8]) -> Error {
    let bench = Bench::new();
    bench.load(&to_tar(&TestImage::new(&[layer("other")]).docker(&["other"]))).expect("another image");
    let before = (bench.counts(), bench.images());
    let error = bench.load(bytes).expect_err("this archive must fail");
    assert_eq!((bench.counts(), bench.images()), before, "after {error:?}");
    error
}

#[test]
fn every_packaging_gives_the_same_layers() {
    let image = three_layers();
    let docker = to_tar(&image.docker(&["team/app:1"]));
    let oci = to_tar(&image.oci(Some("team/app:1")));
    let check = |store: &Store, source: &Path, case: &str| {
        let loaded =
            store.load(source, &LoadOptions::default()).unwrap_or_else(|error| panic!("{case}: {error:?}"));
        let resolved = store.resolve(&name("team/app:1")).expect(case).expect(case);
        assert_eq!(loaded[0].image, resolved, "{case}");
        assert_eq!(resolved.id, Digest::of(&image.config), "{case}");
        assert_eq!(resolved.references, [name("docker.io/team/app:1")], "{case}");
        assert_eq!(
            (resolved.config.cmd.as_slice(), resolved.config.env.as_slice()),
            (&["/bin/true".to_owned()][..], &["A=b".to_owned()][..])
        );
        let texts: Vec<_> = resolved
            .layers
            .iter()
            .map(|path| fs::read_to_string(path.join("etc/name")).expect(case))
            .collect();
        assert_eq!(texts, ["one", "two", "three"], "{case}: the topmost layer is last");
        resolved
    };
    for (case, bytes) in [
        ("docker", docker.clone()),
        ("docker.gz", gzip(&docker)),
        ("docker.zst", zstd(&docker)),
        ("docker in two gzip members", [gzip(&docker[..1000]), gzip(&docker[1000..])].concat()),
        ("oci", oci.clone()),
        ("oci.gz", gzip(&oci)),
    ] {
        let bench = Bench::new();
        let resolved = check(&bench.store, &bench.file("archive", &bytes), case);
        if case.starts_with("oci") {
            assert_eq!(
                resolved.manifest,
                Digest::of(&image.manifest()),
                "{case}: the manifest is kept as it is"
            );
        }
        // Again: nothing changes, nothing is left over.
        let counts = bench.counts();
        assert_eq!(check(&bench.store, &bench.file("archive", &bytes), case), resolved);
        assert_eq!(bench.counts(), counts, "{case}");
        assert_eq!(counts[2], 0, "{case}: tmp is empty");
    }
    for (case, files) in [
        ("docker directory", image.docker(&["team/app:1"])),
        ("oci directory", image.oci(Some("team/app:1"))),
    ] {
        let bench = Bench::new();
        let dir = bench.dir.path().join("dir");
        write_dir(&dir, &files);
        check(&bench.store, &dir, case);
    }
}

#[test]
fn the_store_is_an_oci_layout_itself() {
    let bench = Bench::new();
    bench.load(&to_tar(&three_layers().docker(&["a:1", "b:2"]))).expect("load");
    let copy = Bench::new();
    let loaded = copy.store.load(bench.store.path(), &LoadOptions::default()).expect("load the store");
    assert_eq!(loaded[0].image.references, [name("a:1"), name("b:2")]);
    assert_eq!(loaded[0].image.manifest, bench.images()[0].manifest);
}

#[test]
fn the_store_is_closed_to_others() {
    let bench = Bench::new();
    bench.load(&to_tar(&three_layers().docker(&[]))).expect("load");
    for part in ["", "blobs", "layers", "tmp"] {
        let mode = fs::metadata(bench.store.path().join(part)).expect("stat").permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{part:?}");
    }
    let diff = &bench.images()[0].layers[0];
    assert_eq!(
        fs::metadata(diff).expect("stat").permissions().mode() & 0o7777,
        0o755,
        "a container's root is open"
    );
}

#[test]
fn names_come_from_annotations_or_the_caller() {
    let image = three_layers();
    let bench = Bench::new();
    // A bare word is a tag within the layout.
    let loaded = bench.load(&to_tar(&image.oci(Some("latest")))).expect("load");
    assert_eq!(loaded[0].image.references, []);
    let options = LoadOptions { name: Some(name("localhost/mine")), ..LoadOptions::default() };
    let archive = bench.file("archive", &to_tar(&image.oci(Some("other/name:1"))));
    let loaded = bench.store.load(&archive, &options).expect("load");
    assert_eq!(loaded[0].image.references, [name("localhost/mine")]);
    assert_eq!(bench.images().len(), 1, "the nameless entry got the name");
    assert!(matches!(bench.load(&to_tar(&image.oci(Some("upper/CASE:1")))), Err(Error::Name { .. })));
}

#[test]
fn a_name_is_taken_over_only_on_request() {
    let bench = Bench::new();
    let old = bench
        .load(&to_tar(&TestImage::new(&[layer("old")]).docker(&["app:1"])))
        .expect("load")
        .remove(0)
        .image;
    let archive = bench.file("archive", &to_tar(&TestImage::new(&[layer("new")]).docker(&["app:1"])));
    let error = bench.store.load(&archive, &LoadOptions::default()).expect_err("the name is taken");
    assert!(matches!(&error, Error::NameTaken { id, .. } if *id == old.id), "{error:?}");
    assert_eq!(bench.store.resolve(&name("app:1")).expect("resolve"), Some(old.clone()));

    let replace = LoadOptions { replace: true, ..LoadOptions::default() };
    let new = bench.store.load(&archive, &replace).expect("replace").remove(0).image;
    assert_eq!(bench.store.resolve(&name("app:1")).expect("resolve"), Some(new.clone()));
    // A container may still run from the old one.
    let kept = bench.store.find(&old.id.to_string()).expect("find").expect("kept");
    assert_eq!((kept.references.len(), &kept.layers), (0, &old.layers));
    bench.lease(&old);
    assert_eq!(bench.prune(), []);
    bench.release();
    assert_eq!(bench.prune(), [old.id]);
    assert_eq!(bench.images(), [new]);
}

#[test]
fn images_are_found_by_name_digest_and_short_id() {
    let bench = Bench::new();
    let image = bench
        .load(&to_tar(&three_layers().docker(&["busybox", "localhost/x:1"])))
        .expect("load")
        .remove(0)
        .image;
    let (id, manifest) = (image.id.hex(), image.manifest);
    for what in [
        "busybox",
        "docker.io/library/busybox:latest",
        "localhost/x:1",
        &format!("busybox@{manifest}"),
        &format!("busybox:ignored@{manifest}"),
        &id,
        &id[..12],
        &format!("sha256:{}", &id[..6]),
    ] {
        assert_eq!(bench.store.find(what).expect(what).as_ref(), Some(&image), "{what}");
    }
    for what in
        ["busybox:1", "x:1", &format!("elsewhere@{manifest}"), "", "sha256:", &id[1..20], "no such thing"]
    {
        assert_eq!(bench.store.find(what).expect(what), None, "{what}");
    }
}

#[test]
fn one_id_may_have_two_manifests() {
    // The same image as it is, and with its layers compressed in another way.
    let image = three_layers();
    let bench = Bench::new();
    bench.load(&to_tar(&image.docker(&["plain:1"]))).expect("load");
    let mut other = three_layers();
    other.layers[0].0 = gzip(&other.layers[0].0);
    bench.load(&to_tar(&other.oci(Some("team/packed:1")))).expect("load");
    let id = Digest::of(&image.config).to_string();
    assert!(bench.store.find(&id).expect("not ambiguous").is_some());
    assert_eq!(bench.counts()[1], 3);
    let removed = bench.store.remove("plain:1", false).expect("the image stays under its other name");
    assert_eq!(removed.image, None);
    let left = bench.store.resolve(&name("team/packed:1")).expect("resolve").expect("stays");
    assert!(left.layers[2].exists());
    bench.load(&to_tar(&image.docker(&["plain:1"]))).expect("load");
    bench.lease(&left);
    assert!(matches!(bench.store.remove(&id, false), Err(Error::InUse { .. })));
    bench.release();
    assert_eq!(bench.store.remove(&id, false).expect("remove").references.len(), 2);
    assert_eq!(bench.counts(), [0, 0, 0]);
}

#[test]
fn removal_deletes_what_no_other_image_uses() {
    let bench = Bench::new();
    let shared = layer("shared");
    let first = TestImage::new(&[shared.clone(), layer("first")]);
    let second = TestImage::new(&[shared, layer("second")]);
    bench.load(&to_tar(&first.docker(&["first:1", "first:2"]))).expect("load");
    bench.load(&to_tar(&second.docker(&["second"]))).expect("load");
    assert_eq!(bench.counts(), [3 + 2 * 2, 3, 0]);

    let image = bench.store.find("first:1").expect("find").expect("it is there");
    bench.lease(&image);
    let removed = bench.store.remove("first:1", false).expect("another name stays, so use does not matter");
    assert_eq!((removed.references, removed.image), (vec![name("first:1")], None));
    let error = bench.store.remove("first:2", false).expect_err("in use");
    assert!(matches!(&error, Error::InUse { users, .. } if users == &["somebody"]), "{error:?}");
    assert!(matches!(bench.store.remove("first:1", false), Err(Error::NoSuchImage(_))));
    bench.release();

    let hold = bench.store.hold().expect("hold");
    let removed = bench.store.remove("first:2", false).expect("remove");
    assert_eq!((removed.image, removed.deferred), (Some(Digest::of(&first.config)), true));
    assert_eq!(bench.counts()[1], 3, "a holder keeps the layers");
    assert!(bench.store.resolve(&name("first:2")).expect("resolve").is_none());
    drop(hold);
    assert!(bench.store.collect_garbage().expect("collect"));
    assert_eq!(bench.counts(), [2 + 2, 2, 0]);

    let id = Digest::of(&second.config).to_string();
    bench.store.tag(&id, &name("localhost/also"), false).expect("tag");
    let removed = bench.store.remove(&id[..20], false).expect("by id, with all names");
    assert_eq!(removed.references.len(), 2);
    assert_eq!(bench.counts(), [0, 0, 0]);
    assert_eq!(bench.images(), []);
}

#[test]
fn the_image_of_this_machine_is_chosen() {
    let host = Platform::host();
    let ours = TestImage::new(&[layer("ours")]);
    let other = TestImage::for_platform(&[layer("other")], "vax");
    let descriptor = |image: &TestImage, architecture: &str, variant: &str| {
        let manifest = image.manifest();
        serde_json::json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(&manifest), "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture, "variant": variant}})
    };
    let attestation = serde_json::json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(b"absent"), "size": 6,
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        "platform": {"os": "unknown", "architecture": "unknown"}});
    let layout = |manifests: &[serde_json::Value], nested: bool| {
        let mut files: Vec<_> = [ours.blobs(), other.blobs()].concat();
        let mut index = serde_json::json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        if nested {
            let digest = Digest::of(index.as_bytes());
            files.push((format!("blobs/sha256/{}", digest.hex()), index.clone().into_bytes()));
            let annotations = serde_json::json!({"io.containerd.image.name": "docker.io/library/multi:1"});
            index =
                serde_json::json!({"schemaVersion": 2, "manifests": [{"digest": digest, "size": index.len(),
                "mediaType": "application/vnd.oci.image.index.v1+json", "annotations": annotations}]})
                .to_string();
        }
        files.push(("index.json".to_owned(), index.into_bytes()));
        files.push(("oci-layout".to_owned(), b"{}".to_vec()));
        to_tar(&files)
    };
    let manifests = [
        descriptor(&other, "vax", ""),
        attestation,
        descriptor(&other, &host.architecture, "v99"),
        descriptor(&ours, &host.architecture, ""),
    ];
    for nested in [false, true] {
        let loaded = Bench::new().load(&layout(&manifests, nested)).expect("ours is there");
        assert_eq!((loaded.len(), loaded[0].image.id), (1, Digest::of(&ours.config)), "nested: {nested}");
        assert_eq!(loaded[0].image.references.len(), usize::from(nested));
        let error = failure(&layout(&manifests[..3], nested));
        assert!(
            matches!(&error, Error::Platform { available, .. } if available.contains("linux/vax")),
            "{error:?}"
        );
    }
    let error = failure(&to_tar(&other.docker(&["vax"])));
    assert!(matches!(&error, Error::Platform { available, .. } if available == "linux/vax"), "{error:?}");

    let bench = Bench::new();
    let archive = bench.file("archive", &layout(&manifests, true));
    let platform = Platform { architecture: "vax".to_owned(), ..host };
    let loaded =
        bench.store.load(&archive, &LoadOptions { platform, ..LoadOptions::default() }).expect("load");
    assert_eq!(loaded[0].image.id, Digest::of(&other.config));
}

#[test]
fn a_layer_with_an_opaque_root_hides_the_others() {
    let mut opaque = TarFile::new();
    opaque.file(".wh..wh..opq", "").file("only", "this");
    let bench = Bench::new();
    let image = TestImage::new(&[layer("hidden"), opaque.finish(), layer("top")]);
    let image = bench.load(&to_tar(&image.docker(&["x:1"]))).expect("load").remove(0).image;
    assert_eq!(image.layers.len(), 2);
    assert!(image.layers[0].join("only").exists());
    assert_eq!(bench.counts()[1], 3, "the hidden layer is part of the image all the same");
}

#[test]
fn docker_s_links_between_layers_are_followed() {
    let image = TestImage::new(&[layer("same")]);
    let mut tar = TarFile::new();
    let config = format!("{}.json", Digest::of(&image.config).hex());
    tar.entry(b'0', "one/layer.tar", "", 0o644, &image.layers[0].0);
    tar.symlink("two/layer.tar", "../one/layer.tar");
    tar.entry(b'0', &config, "", 0o644, &image.config);
    let manifest = format!(r#"[{{"Config":"{config}","RepoTags":null,"Layers":["two/layer.tar"]}}]"#);
    tar.entry(b'0', "manifest.json", "", 0o644, manifest.as_bytes());
    let loaded = Bench::new().load(&tar.finish()).expect("load");
    assert_eq!(loaded[0].image.layers.len(), 1);
}

#[test]
fn a_root_file_system_becomes_an_image() {
    let bench = Bench::new();
    let mut tar = TarFile::new();
    tar.dir("bin").file("bin/sh", "#!").dir("dev").device("dev/null");
    let config = ImageConfig {
        cmd: vec!["/bin/sh".to_owned()],
        user: "1000".to_owned(),
        stop_signal: Some("SIGINT".to_owned()),
        ..ImageConfig::default()
    };
    let options = ImportOptions { config: config.clone(), ..ImportOptions::default() };
    for (number, bytes) in [tar.finish(), gzip(&tar.finish()), zstd(&tar.finish())].iter().enumerate() {
        let reference = name(&format!("localhost/rootfs:{number}"));
        let source = bench.file("rootfs", bytes);
        let loaded = bench.store.import(&source, &reference, &options).expect("import");
        let host = Platform::host();
        let expected = ImageConfig { os: host.os, architecture: host.architecture, ..config.clone() };
        assert_eq!(loaded.image.config, expected);
        assert!(loaded.image.references.contains(&reference));
        assert_eq!(fs::read_to_string(loaded.image.layers[0].join("bin/sh")).expect("read"), "#!");
        assert_eq!(loaded.skipped.devices, 1);
    }
    assert_eq!(bench.counts()[1], 1);
    assert!(matches!(
        bench.store.import(&bench.file("x", b"junk"), &name("x"), &options),
        Err(Error::Archive { .. } | Error::Malformed { .. })
    ));
    assert!(matches!(
        bench.store.import(&bench.file("y", &layer("y")), &name("localhost/rootfs:0"), &options),
        Err(Error::NameTaken { .. })
    ));
    assert_eq!(bench.counts()[1..], [1, 0]);
}

#[test]
fn a_directory_becomes_the_image_it_was() {
    let bench = Bench::new();
    let tree = bench.dir.path().join("tree");
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    write_dir(&tree, &[("etc/a".to_owned(), b"A".to_vec()), (long.clone(), b"long".to_vec())]);
    fs::hard_link(tree.join("etc/a"), tree.join("etc/b")).expect("link");
    std::os::unix::fs::symlink("x".repeat(150), tree.join("link")).expect("symlink");
    nix::unistd::mkfifo(&tree.join("pipe"), nix::sys::stat::Mode::S_IRUSR).expect("mkfifo");
    fs::set_permissions(tree.join("etc/a"), fs::Permissions::from_mode(0o4750)).expect("chmod");
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).expect("bind");
    let import = |reference: &str| {
        bench.store.import(&tree, &name(reference), &ImportOptions::default()).expect("import").image
    };
    let image = import("localhost/tree:1");
    let mut expected = crate::testing::describe(&tree);
    expected.retain(|line| !line.starts_with("socket "));
    assert_eq!(crate::testing::describe(&image.layers[0]), expected);
    assert_eq!(fs::read_to_string(image.layers[0].join(&long)).expect("read"), "long");
    assert_eq!(import("localhost/tree:2").id, image.id, "the same tree gives the same image");
    assert!(
        bench.store.import(&bench.dir.path().join("absent"), &name("x"), &ImportOptions::default()).is_err()
    );
}

#[test]
fn two_loads_at_once_give_one_image() {
    let bench = Bench::new();
    let images: Vec<_> = (0..4)
        .map(|number| {
            let image = TestImage::new(&[layer("base"), layer("middle"), layer(&number.to_string())]);
            bench
                .file(&format!("archive{number}"), &to_tar(&image.docker(&[&format!("app:{number}"), "app"])))
        })
        .collect();
    std::thread::scope(|scope| {
        for round in 0..4 {
            for archive in &images {
                let store = bench.store.clone();
                scope.spawn(move || {
                    let replace = LoadOptions { replace: true, ..LoadOptions::default() };
                    // Every second one with a view of its own, as another process has.
                    let store = if round % 2 == 0 { store } else { Store::open(store.path()).expect("open") };
                    store.load(archive, &replace).expect("load");
                    if round == 1 {
                        store.collect_garbage().expect("collect");
                    }
                });
            }
        }
    });
    let all = bench.images();
    assert_eq!(all.len(), 4);
    assert_eq!(all.iter().map(|image| image.references.len()).sum::<usize>(), 5);
    assert_eq!(bench.counts(), [6 + 2 * 4, 6, 0]);
    for image in all {
        assert_eq!(fs::read_to_string(image.layers[0].join("etc/name")).expect("read"), "base");
    }
}

#[test]
fn busybox_is_loaded() {
    require!(root, program("busybox"));
    let bench = Bench::new();
    let archive = podrun_testkit::busybox_image(bench.dir.path());
    let loaded = bench.store.load(&archive, &LoadOptions::default()).expect("load");
    assert_eq!(loaded[0].image.references, [name(podrun_testkit::BUSYBOX_REFERENCE)]);
    assert!(loaded[0].image.layers[0].join("bin/busybox").exists());
}

#[expect(clippy::disallowed_methods, reason = "an independent writer of images to compare with")]
#[test]
fn what_skopeo_writes_is_loaded_the_same() {
    require!(root, program("skopeo"), program("busybox"));
    let bench = Bench::new();
    let archive = podrun_testkit::busybox_image(bench.dir.path());
    let direct = bench.store.load(&archive, &LoadOptions::default()).expect("load").remove(0).image;
    let path = |name: &str| bench.dir.path().join(name);
    for (format, target) in [
        ("oci", format!("oci:{}:localhost/copy:1", path("layout").display())),
        ("oci-archive", format!("oci-archive:{}:localhost/copy:2", path("oci.tar").display())),
        ("docker-archive", format!("docker-archive:{}:localhost/copy:3", path("docker.tar").display())),
    ] {
        let status = std::process::Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet"])
            .args([format!("docker-archive:{}", archive.display()), target])
            .status()
            .expect("skopeo runs");
        assert!(status.success(), "{format}");
    }
    for (source, tag) in [("layout", "1"), ("oci.tar", "2"), ("docker.tar", "3")] {
        let loaded = bench.store.load(&path(source), &LoadOptions::default()).expect(source);
        assert!(loaded[0].image.references.contains(&name(&format!("localhost/copy:{tag}"))), "{source}");
        // The configuration may be written anew, and so have another digest; the layers are the same.
        assert_eq!(loaded[0].image.layers, direct.layers, "{source}");
    }
}
