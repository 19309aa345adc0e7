//! Damage is found, repaired where that can be, and told of where it cannot.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use podrun_testkit::require;

use super::*;
use crate::LoadOptions;
use crate::testing::{TestImage, describe, to_tar};

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

fn layer(name: &str) -> Vec<u8> {
    let mut tar = TarFile::new();
    tar.dir("etc").file("etc/name", name).entry(b'0', "bin", "", 0o4755, &[b'x'; 3000]);
    tar.hard_link("bin2", "bin").symlink("link", name).file(&format!("only/{name}"), "implied");
    tar.finish()
}

impl Bench {
    /// A store with `a:1` of three layers and `b:1`, which shares the lowest.
    fn new() -> Self {
        let (dir, store) = store();
        let bench = Self { dir, store };
        bench.load("a:1", &["shared", "two", "three"]);
        bench.load("b:1", &["shared", "other"]);
        bench
    }

    fn load(&self, name: &str, layers: &[&str]) {
        let layers: Vec<_> = layers.iter().map(|name| layer(name)).collect();
        let archive = self.dir.path().join("archive");
        fs::write(&archive, to_tar(&TestImage::new(&layers).docker(&[name]))).expect("write");
        self.store.load(&archive, &LoadOptions::default()).expect("load");
    }

    fn check(&self) -> CheckReport {
        self.store.check(&CheckOptions::default(), |_| {}).expect("check")
    }

    fn dry(&self) -> CheckReport {
        self.store.check(&CheckOptions { dry_run: true, ..CheckOptions::default() }, |_| {}).expect("check")
    }

    /// Every file of the store that an image needs, but for the documents about layers.
    fn files(&self, part: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.store.path().join(part)];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).expect("read") {
                let entry = entry.expect("entry");
                let kind = entry.file_type().expect("type");
                if kind.is_dir() {
                    dirs.push(entry.path());
                } else if kind.is_file() {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }

    fn assert_sound(&self, images: usize) {
        let report = self.check();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        let list = self.store.list().expect("list");
        assert_eq!((list.images.len(), list.damaged.len()), (images, 0));
        assert_eq!(entries(&self.store, "tmp"), 0);
    }
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).expect("open");
    let modified = file.metadata().and_then(|meta| meta.modified()).expect("stat");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("write");
    // A disk does not tell.
    file.set_modified(modified).expect("set time");
}

#[test]
fn a_sound_store_has_nothing_to_repair() {
    let bench = Bench::new();
    let before = describe_store(&bench);
    let report = bench.check();
    assert!(report.is_sound() && report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.images, report.blobs, report.layers), (2, 4 + 2 * 2, 4));
    assert_eq!(describe_store(&bench), before);
}

/// Everything that containers see of the store, and the names of its blobs.
fn describe_store(bench: &Bench) -> Vec<String> {
    let list = |part: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(bench.store.path().join(part)).expect("read");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
        paths.sort();
        paths
    };
    let mut lines: Vec<String> = list("blobs/sha256").iter().map(|path| path.display().to_string()).collect();
    for path in list("layers").into_iter().chain(list("joins")) {
        lines.push(path.display().to_string());
        if path.join("diff").exists() {
            lines.extend(describe(&path.join("diff")));
        }
    }
    lines
}

#[test]
fn every_flipped_bit_of_every_blob_is_found_and_its_images_go() {
    let bench = Bench::new();
    for path in bench.files("blobs") {
        let bench = Bench::new();
        let path = bench.store.path().join("blobs/sha256").join(path.file_name().expect("a name"));
        let length = fs::metadata(&path).expect("stat").len();
        for at in [0, length / 2, length - 1] {
            flip(&path, at);
            let report = bench.dry();
            assert_eq!(report.findings.len(), 1, "{report:?}");
            assert_eq!(report.findings[0].outcome, Outcome::Left("dry run".to_owned()));
            flip(&path, at);
        }
        bench.assert_sound(2);
        flip(&path, length / 3);
        let report = bench.check();
        let Outcome::Dropped(gone) = &report.findings[0].outcome else { panic!("{report:?}") };
        assert!(!report.is_sound() && !gone.is_empty(), "{report:?}");
        let left = 2 - gone.len();
        bench.assert_sound(left);
        // What is left can be used, and the others can be loaded again.
        bench.load("a:1", &["shared", "two", "three"]);
        bench.load("b:1", &["shared", "other"]);
        bench.assert_sound(2);
    }
}

#[test]
fn every_damaged_file_of_a_layer_is_found_and_repaired() {
    require!(root);
    let bench = Bench::new();
    let sound = describe_store(&bench);
    let files = bench.files("layers");
    assert!(files.len() >= 4 * 5, "{files:?}");
    for path in &files {
        let length = fs::metadata(path).expect("stat").len();
        for at in [0, length - 1] {
            flip(path, at);
            let report = bench.dry();
            // A flipped digit of an unpacked file's name or number may hit what is not compared, such as a blob's size.
            let is_document = path.extension().is_some_and(|extension| extension == "json");
            assert_eq!(report.findings.len(), 1, "{}: {report:?}", path.display());
            let report = bench.check();
            assert!(report.is_sound(), "{}: {report:?}", path.display());
            assert!(is_document || describe_store(&bench) == sound, "{}", path.display());
            bench.assert_sound(2);
        }
    }
    let diff = |name: &str| bench.store.find("a:1").expect("find").expect("it is there").layers[0].join(name);
    let cases: [(&str, &dyn Fn()); 8] = [
        ("content", &|| fs::write(diff("etc/name"), "shAred").expect("write")),
        ("mode", &|| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(diff("bin"), mode).expect("chmod");
        }),
        ("owner", &|| std::os::unix::fs::chown(diff("etc"), Some(5), None).expect("chown")),
        ("existence", &|| fs::remove_file(diff("link")).expect("remove")),
        ("existence", &|| fs::write(diff("more"), "").expect("write")),
        ("number of links", &|| {
            fs::copy(diff("bin"), diff("copy")).expect("copy");
            fs::rename(diff("copy"), diff("bin2")).expect("rename");
        }),
        ("missing", &|| fs::remove_dir_all(diff("..")).expect("remove")),
        ("missing", &|| {
            fs::remove_dir_all(bench.store.path().join("joins"))
                .and_then(|()| fs::create_dir(bench.store.path().join("joins")))
                .expect("remove");
        }),
    ];
    for (what, damage) in cases {
        damage();
        let report = bench.check();
        assert!(report.is_sound() && !report.findings.is_empty(), "{what}: {report:?}");
        assert_eq!(describe_store(&bench), sound, "{what}");
        bench.assert_sound(2);
    }
}

#[test]
fn what_is_in_use_is_left_and_told() {
    let bench = Bench::new();
    let image = bench.store.find("b:1").expect("find").expect("it is there");
    bench.store.hold().and_then(|hold| hold.lease("pod-1", &image)).expect("lease");
    let file = image.layers[1].join("etc/name");
    flip(&file, 0);
    let report = bench.check();
    assert_eq!(report.findings[0].outcome, Outcome::Left("in use by pod-1".to_owned()), "{report:?}");
    let blob = bench.store.layout.blob(&image.id);
    flip(&blob, 5);
    let report = bench.check();
    assert_eq!(report.findings[0].outcome, Outcome::Left("in use by pod-1".to_owned()), "{report:?}");
    flip(&blob, 5);
    bench.store.release("pod-1").expect("release");
    let hold = bench.store.hold().expect("hold");
    let report = bench.check();
    assert!(
        matches!(&report.findings[0].outcome, Outcome::Left(why) if why.contains("in use")),
        "{report:?}"
    );
    drop(hold);
    assert!(bench.check().is_sound());
    bench.assert_sound(2);
}

#[test]
fn a_damaged_index_comes_back_from_its_copy_or_from_the_manifests() {
    let bench = Bench::new();
    let index = bench.store.layout.index();
    let sound = fs::read(&index).expect("read");
    for content in [&b""[..], b"{\"schemaVersion\":2,\"mani", &[0; 300]] {
        fs::write(&index, content).expect("write");
        assert!(matches!(bench.store.list(), Err(Error::Document { .. })));
        assert!(!bench.dry().is_sound());
        let report = bench.check();
        assert!(report.is_sound() && report.findings[0].subject == "index.json", "{report:?}");
        assert_eq!(fs::read(&index).expect("read"), sound);
        bench.assert_sound(2);
    }
    fs::write(&index, "x").expect("write");
    fs::write(bench.store.layout.index_copy(), "x").expect("write");
    assert!(bench.check().is_sound());
    bench.assert_sound(2);
    assert!(bench.store.list().expect("list").images.iter().all(|image| image.references.is_empty()));
}
