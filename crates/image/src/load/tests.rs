use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use podrun_testkit::require;

use super::*;
use crate::Refusal;
use crate::testing::{TarFile, TestImage, gzip, to_tar, write_dir, zstd};

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
    let before = (bench.counts(), bench.store.list().expect("list"));
    let error = bench.load(bytes).expect_err("this archive must fail");
    assert_eq!((bench.counts(), bench.store.list().expect("list")), before, "after {error:?}");
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
    assert_eq!(loaded[0].image.manifest, bench.store.list().expect("list")[0].manifest);
}

#[test]
fn the_store_is_closed_to_others() {
    let bench = Bench::new();
    bench.load(&to_tar(&three_layers().docker(&[]))).expect("load");
    for part in ["", "blobs", "layers", "tmp"] {
        let mode = fs::metadata(bench.store.path().join(part)).expect("stat").permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{part:?}");
    }
    let diff = &bench.store.list().expect("list")[0].layers[0];
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
    assert_eq!(bench.store.list().expect("list").len(), 1, "the nameless entry got the name");
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
    assert_eq!((kept.references.len(), kept.layers), (0, old.layers));
    assert_eq!(bench.store.prune(|_| true).expect("prune"), []);
    assert_eq!(bench.store.prune(|_| false).expect("prune"), [old.id]);
    assert_eq!(bench.store.list().expect("list"), [new]);
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
fn removal_deletes_what_no_other_image_uses() {
    let bench = Bench::new();
    let shared = layer("shared");
    let first = TestImage::new(&[shared.clone(), layer("first")]);
    let second = TestImage::new(&[shared, layer("second")]);
    bench.load(&to_tar(&first.docker(&["first:1", "first:2"]))).expect("load");
    bench.load(&to_tar(&second.docker(&["second"]))).expect("load");
    assert_eq!(bench.counts(), [3 + 2 * 2, 3, 0]);

    let removed =
        bench.store.remove("first:1", |_| true).expect("another name stays, so use does not matter");
    assert_eq!((removed.references, removed.image), (vec![name("first:1")], None));
    assert!(matches!(bench.store.remove("first:2", |_| true), Err(Error::InUse { .. })));
    assert!(matches!(bench.store.remove("first:1", |_| false), Err(Error::NoSuchImage(_))));

    let hold = bench.store.hold().expect("hold");
    let removed = bench.store.remove("first:2", |_| false).expect("remove");
    assert_eq!((removed.image, removed.deferred), (Some(Digest::of(&first.config)), true));
    assert_eq!(bench.counts()[1], 3, "a holder keeps the layers");
    assert!(bench.store.resolve(&name("first:2")).expect("resolve").is_none());
    drop(hold);
    assert!(bench.store.collect_garbage().expect("collect"));
    assert_eq!(bench.counts(), [2 + 2, 2, 0]);

    let id = Digest::of(&second.config).to_string();
    bench.store.tag(&id, &name("localhost/also"), false).expect("tag");
    let removed = bench.store.remove(&id[..20], |_| false).expect("by id, with all names");
    assert_eq!(removed.references.len(), 2);
    assert_eq!(bench.counts(), [0, 0, 0]);
    assert_eq!(bench.store.list().expect("list"), []);
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
fn lies_about_content_are_found() {
    let image = three_layers();
    // One bit of each blob in turn, then a cut, then a byte too many.
    for index in 0..image.blobs().len() {
        let mut flipped = image.oci(Some("x:1"));
        let middle = flipped[index].1.len() / 2;
        flipped[index].1[middle] ^= 1;
        let error = failure(&to_tar(&flipped));
        // A flipped bit may break the compression or the archive before the digest is known.
        assert!(
            matches!(error, Error::DigestMismatch { .. } | Error::Archive { .. } | Error::Malformed { .. }),
            "{index}: {error:?}"
        );
        let mut cut = image.oci(Some("x:1"));
        cut[index].1.pop();
        let error = failure(&to_tar(&cut));
        assert!(matches!(error, Error::SizeMismatch { .. } | Error::Archive { .. }), "{index}: {error:?}");
        let mut longer = image.oci(Some("x:1"));
        longer[index].1.push(0);
        let error = failure(&to_tar(&longer));
        assert!(matches!(error, Error::SizeMismatch { .. } | Error::Archive { .. }), "{index}: {error:?}");
        let mut absent = image.oci(Some("x:1"));
        absent.remove(index);
        assert!(matches!(failure(&to_tar(&absent)), Error::Missing(_)), "{index}");
    }
    // A file's content in an uncompressed layer: the archive is fine, only the digest tells.
    let mut changed = image.docker(&["x:1"]);
    let at = changed[0].1.windows(3).position(|part| part == b"one").expect("content");
    changed[0].1[at] = b'O';
    assert!(matches!(
        failure(&to_tar(&changed)),
        Error::DigestMismatch { what: "layer after decompression", .. }
    ));
    let mut config = image.docker(&["x:1"]);
    config[3].1.push(b' ');
    assert!(matches!(failure(&to_tar(&config)), Error::DigestMismatch { what: "image configuration", .. }));

    let mut swapped = three_layers();
    swapped.layers.swap(0, 1);
    assert!(matches!(failure(&to_tar(&swapped.docker(&["x:1"]))), Error::DigestMismatch { .. }));
    let mut fewer = three_layers();
    fewer.layers.pop();
    assert!(matches!(failure(&to_tar(&fewer.oci(None))), Error::Contradiction { .. }));
}

#[test]
fn archives_that_are_cut_leave_nothing() {
    let image = three_layers();
    let docker = to_tar(&image.docker(&["x:1"]));
    // The end mark and the padding before it may be missing: no byte of the content is.
    let content = docker.len() - 1536;
    let (gzip, zstd) = (gzip(&to_tar(&image.oci(Some("x:1")))), zstd(&to_tar(&image.oci(None))));
    let ends = [content, gzip.len() - 1, zstd.len() - 1];
    for (bytes, end) in [docker, gzip, zstd].iter().zip(ends) {
        for part in 1..=12 {
            failure(&bytes[..end * part / 12]);
        }
    }
    assert!(matches!(failure(b"not an archive"), Error::Archive { .. }));
    assert!(matches!(failure(&[0; 4096]), Error::NotAnImage(_)));
    assert!(matches!(failure(&layer("a root file system")), Error::NotAnImage(_)));
}

#[test]
fn hostile_documents_are_refused() {
    let image = three_layers();
    let with = |file: &str, text: &str| {
        let mut files = image.docker(&["x:1"]);
        files.retain(|(path, _)| path != file);
        files.push((file.to_owned(), text.as_bytes().to_vec()));
        failure(&to_tar(&files))
    };
    for (text, expected) in [
        ("[]", "Missing"),
        ("{}", "Document"),
        (r#"[{"Config":"../../etc/passwd","Layers":[]}]"#, "Refused"),
        (r#"[{"Config":"/etc/passwd","Layers":[]}]"#, "Missing"),
        (r#"[{"Config":"manifest.json","Layers":[]}]"#, "Document"),
    ] {
        let error = format!("{:?}", with("manifest.json", text));
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    let error = with("manifest.json", &" ".repeat(5 << 20));
    assert!(matches!(error, Error::Limit { unit: "bytes of document", .. }), "{error:?}");
    let many = format!("[{}]", vec![r#"{"Config":"x"}"#; 1001].join(","));
    assert!(matches!(with("manifest.json", &many), Error::Limit { unit: "images", .. }));

    let mut bad_digest = image.oci(None);
    let index = bad_digest.iter_mut().find(|(path, _)| path == "index.json").expect("index");
    let hex = Digest::of(&image.manifest()).hex();
    let text = String::from_utf8(index.1.clone()).expect("text").replace(&hex, "../../../../../etc/passwd");
    index.1 = text.into_bytes();
    assert!(matches!(failure(&to_tar(&bad_digest)), Error::Document { .. }));
}

#[test]
fn links_in_a_directory_lead_nowhere_else() {
    let bench = Bench::new();
    let dir = bench.dir.path().join("dir");
    let image = three_layers();
    write_dir(&dir, &image.docker(&["x:1"]));
    let outside = bench.file("outside", &image.config);
    let config = dir.join(format!("{}.json", Digest::of(&image.config).hex()));
    fs::remove_file(&config).expect("remove");
    std::os::unix::fs::symlink(&outside, &config).expect("symlink");
    let error = bench.store.load(&dir, &LoadOptions::default()).expect_err("outside");
    assert!(matches!(error, Error::Missing(_)), "{error:?}");
    // A FIFO must not block.
    fs::remove_file(&config).expect("remove");
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    assert!(matches!(bench.store.load(&dir, &LoadOptions::default()), Err(Error::File { .. })));
}

#[test]
fn bombs_meet_their_limits() {
    let bench = Bench::new();
    let limits = Limits::default().with_unpacked_bytes(1 << 20).with_layer_entries(100);
    let load = |image: &TestImage| {
        let archive = bench.file("archive", &to_tar(&image.oci(Some("bomb:1"))));
        let error = bench
            .store
            .load(&archive, &LoadOptions { limits, ..LoadOptions::default() })
            .expect_err("a bomb");
        assert_eq!(bench.counts(), [0, 0, 0], "{error:?}");
        error
    };
    let mut zeros = TarFile::new();
    zeros.entry(b'0', "zeros", "", 0o644, &vec![0; 2 << 20]);
    let mut trailing = TarFile::new().finish();
    trailing.resize(2 << 20, 0);
    let mut many = TarFile::new();
    for _ in 0..101 {
        many.file("f", "");
    }
    let mut half = TarFile::new();
    half.entry(b'0', "half", "", 0o644, &vec![0; 600 << 10]);
    let mut other_half = TarFile::new();
    other_half.entry(b'0', "other", "", 0o644, &vec![0; 600 << 10]);
    for (case, layers, unit) in [
        ("zeros, plain", vec![zeros.finish()], "unpacked bytes"),
        ("zeros, gzip", vec![layer("x"), zeros.finish()], "unpacked bytes"),
        ("zeros, zstd", vec![layer("x"), layer("y"), zeros.finish()], "unpacked bytes"),
        ("zeros after the end", vec![layer("x"), trailing], "unpacked bytes"),
        ("all layers together", vec![half.finish(), other_half.finish()], "unpacked bytes"),
        ("entries", vec![many.finish()], "entries"),
    ] {
        match load(&TestImage::new(&layers)) {
            Error::Limit { unit: found, .. } => assert_eq!(found, unit, "{case}"),
            other => panic!("{case}: {other:?}"),
        }
    }
    // The outer archive, too, when it has to be written out.
    let outer = bench.file("archive", &gzip(&vec![0; 2 << 20]));
    let error =
        bench.store.load(&outer, &LoadOptions { limits, ..LoadOptions::default() }).expect_err("a bomb");
    assert!(matches!(error, Error::Limit { unit: "unpacked bytes", .. }), "{error:?}");
}

#[test]
fn a_zstd_window_is_bounded() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("encoder");
    encoder.window_log(crate::limits::MAX_ZSTD_WINDOW_LOG + 1).expect("window");
    encoder.include_contentsize(false).expect("parameter");
    std::io::Write::write_all(&mut encoder, &layer("x")).expect("memory");
    let mut image = TestImage::new(&[layer("x")]);
    image.layers[0].0 = encoder.finish().expect("memory");
    let error = failure(&to_tar(&image.oci(None)));
    assert!(matches!(&error, Error::Archive { .. }), "{error:?}");
}

#[test]
fn a_hostile_layer_fails_the_whole_load() {
    let mut device = TarFile::new();
    device.file("fine", "x").device("etc/null");
    let image = TestImage::new(&[layer("fine"), device.finish()]);
    let error = failure(&to_tar(&image.docker(&["x:1"])));
    assert!(matches!(error, Error::Refused { source: Refusal::DeviceNode, .. }), "{error:?}");
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
    let all = bench.store.list().expect("list");
    assert_eq!(all.len(), 4);
    assert_eq!(all.iter().map(|image| image.references.len()).sum::<usize>(), 5);
    assert_eq!(bench.counts(), [6 + 2 * 4, 6, 0]);
    for image in all {
        assert_eq!(fs::read_to_string(image.layers[0].join("etc/name")).expect("read"), "base");
    }
}

#[test]
fn leftovers_of_dead_processes_are_cleaned_and_live_ones_kept() {
    let bench = Bench::new();
    let tmp = bench.store.path().join("tmp");
    let session = Session::begin(&bench.store.layout, Limits::default()).expect("begin");
    write_dir(&tmp.join("load-dead"), &[("layers/incoming-0/diff/etc/x".to_owned(), b"x".to_vec())]);
    fs::write(tmp.join("garbage"), "").expect("write");
    std::os::unix::fs::symlink(bench.dir.path(), tmp.join("link")).expect("symlink");
    bench.file("canary", b"alive");
    Store::open(bench.store.path()).expect("open");
    let left: Vec<_> = fs::read_dir(&tmp).expect("read").map(|entry| entry.expect("entry").path()).collect();
    assert_eq!(left, [session.scratch()]);
    assert!(bench.dir.path().join("canary").exists());
    drop(session);
    assert_eq!(bench.counts(), [0, 0, 0]);
}

#[test]
fn a_damaged_store_is_an_error_that_names_the_file() {
    let damage = |change: &dyn Fn(&Store, &crate::Image)| {
        let bench = Bench::new();
        let image = bench.load(&to_tar(&three_layers().docker(&["x:1"]))).expect("load").remove(0).image;
        change(&bench.store, &image);
        let error = bench.store.list().expect_err("damaged");
        // Others can be loaded beside it, unless the names themselves are lost.
        (error, bench)
    };
    let (error, _) =
        damage(&|store, _| fs::write(store.path().join("index.json"), "{\"schema").expect("write"));
    assert!(
        matches!(&error, Error::Document { document, .. } if document.ends_with("index.json")),
        "{error:?}"
    );
    let (error, _) = damage(&|store, image| {
        fs::write(store.path().join("blobs/sha256").join(image.id.hex()), "{}").expect("write");
    });
    assert!(matches!(error, Error::DigestMismatch { what: "stored blob", .. }), "{error:?}");
    let (error, bench) = damage(&|_, image| {
        fs::remove_dir_all(image.layers[1].parent().expect("layer")).expect("remove");
    });
    assert!(matches!(&error, Error::Missing(what) if what.starts_with("layer sha256:")), "{error:?}");
    // Loading the archive again repairs it, and a damaged document too.
    let id = Digest::of(&three_layers().config).hex();
    fs::write(bench.store.path().join("blobs/sha256").join(id), "{}").expect("write");
    bench.load(&to_tar(&three_layers().docker(&["x:1"]))).expect("load again");
    assert_eq!(bench.store.list().expect("list").len(), 1);

    let (bench, version) = (Bench::new(), "99\n");
    fs::write(bench.store.path().join("version"), version).expect("write");
    assert!(
        matches!(Store::open(bench.store.path()), Err(Error::StoreVersion { found, .. }) if found == "99")
    );
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
