//! Directories that a layer has something in and does not list.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use podrun_testkit::require;

use super::*;
use crate::LoadOptions;
use crate::testing::{TestImage, to_tar};

fn tar(make: impl FnOnce(&mut TarFile)) -> Vec<u8> {
    let mut tar = TarFile::new();
    make(&mut tar);
    tar.finish()
}

/// Loads an image with these layers and returns what the store puts on top of them, if anything.
fn joined(layers: &[Vec<u8>]) -> (tempfile::TempDir, Store, Option<PathBuf>) {
    let (dir, store) = store();
    let archive = dir.path().join("archive");
    fs::write(&archive, to_tar(&TestImage::new(layers).docker(&["x:1"]))).expect("write");
    let image = store.load(&archive, &LoadOptions::default()).expect("load").remove(0).image;
    assert_eq!(store.find("x:1").expect("find"), Some(image.clone()));
    let top = image.layers.get(layers.len()).cloned();
    (dir, store, top)
}

fn look(top: &Path, path: &str) -> (u32, u32, u32, i64) {
    let meta = fs::symlink_metadata(top.join(path)).expect(path);
    (meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime())
}

#[test]
fn they_look_as_in_the_layers_below() {
    require!(root);
    let base = tar(|tar| {
        tar.entry(b'5', "tmp", "", 0o1777, b"");
        tar.owner = (7, 8);
        tar.dir("srv").entry(b'5', "srv/data", "", 0o2750, b"").dir("gone").dir("opaque").dir("opaque/in");
        tar.dir("listed").dir("file");
    });
    let upper = tar(|tar| {
        tar.file("tmp/x", "").file("srv/data/x", "").file("new/x", "").file("listed/x", "");
        tar.file(".wh.gone", "").file("gone/x", "").file("opaque/.wh..wh..opq", "").file("opaque/in/x", "");
        tar.file("file", "").entry(b'5', "listed", "", 0o700, b"");
    });
    let (_dir, store, top) = joined(&[base, upper]);
    let top = top.expect("directories to lend a look");
    assert_eq!(look(&top, "tmp"), (0o1777, 0, 0, 1_600_000_000));
    assert_eq!(look(&top, "srv"), (0o755, 7, 8, 1_600_000_000));
    assert_eq!(look(&top, "srv/data"), (0o2750, 7, 8, 1_600_000_000));
    assert_eq!(look(&top, "opaque"), (0o755, 7, 8, 1_600_000_000));
    // What is new, was removed before, is hidden or says itself how it looks has nothing from below.
    let mut names: Vec<_> =
        fs::read_dir(&top).expect("read").map(|one| one.expect("entry").file_name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["opaque", "srv", "tmp"]);
    assert!(!top.join("opaque/in").exists());
    assert_eq!(entries(&store, "joins"), 1);
    store.remove("x:1", false).expect("remove");
    assert_eq!(entries(&store, "joins"), 0);
}

#[test]
fn the_look_may_come_from_far_below_and_be_hidden_above() {
    require!(root);
    let base = tar(|tar| done(tar.entry(b'5', "a", "", 0o700, b"").entry(b'5', "a/b", "", 0o711, b"")));
    let middle = tar(|tar| done(tar.file("a/b/c/d", "")));
    let above = tar(|tar| done(tar.file("a/b/x", "")));
    let (_dir, _store, top) = joined(&[base.clone(), middle.clone(), above]);
    let top = top.expect("a and b");
    assert_eq!((look(&top, "a").0, look(&top, "a/b").0), (0o700, 0o711));
    assert!(!top.join("a/b/c").exists());
    for hiding in [
        tar(|tar| done(tar.file(".wh.a", ""))),
        tar(|tar| done(tar.file("a", "now a file"))),
        tar(|tar| done(tar.entry(b'5', "a", "", 0o700, b"").entry(b'5', "a/b", "", 0o711, b""))),
    ] {
        let (_dir, _store, top) = joined(&[base.clone(), middle.clone(), hiding]);
        assert_eq!(top, None);
    }
}

#[test]
fn a_root_that_is_not_plain_is_lent_too() {
    require!(root);
    let layer = || tar(|tar| done(tar.file("x", "")));
    let plain = tar(|tar| done(tar.dir("./").file("y", "")));
    assert_eq!(joined(&[plain, layer()]).2, None);
    let closed = tar(|tar| done(tar.entry(b'5', "./", "", 0o711, b"")));
    let (_dir, _store, top) = joined(&[closed, layer(), layer()]);
    assert_eq!(look(&top.expect("the root"), "").0, 0o711);
}

#[test]
fn chains_are_those_of_the_specification() {
    // `image-spec/identity`: of one layer the layer itself, then the digest of two digests and a space.
    let (a, b, c) = (Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c"));
    assert_eq!(chain_id(&[]), None);
    assert_eq!(chain_id(&[a]), Some(a));
    let ab = Digest::of(format!("{a} {b}").as_bytes());
    assert_eq!(chain_id(&[a, b]), Some(ab));
    assert_eq!(chain_id(&[a, b, c]), Some(Digest::of(format!("{ab} {c}").as_bytes())));
}
