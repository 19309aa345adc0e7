//! What somebody uses stays.

use super::*;
use crate::LoadOptions;
use crate::testing::{TestImage, to_tar};

fn layer(text: &str) -> Vec<u8> {
    let mut tar = TarFile::new();
    tar.dir("etc").file("etc/name", text);
    tar.finish()
}

fn load(dir: &tempfile::TempDir, store: &Store, name: &str, layers: &[&str]) -> Image {
    let layers: Vec<_> = layers.iter().map(|text| layer(text)).collect();
    let archive = dir.path().join("archive");
    fs::write(&archive, to_tar(&TestImage::new(&layers).docker(&[name]))).expect("write");
    store
        .load(&archive, &LoadOptions { replace: true, ..LoadOptions::default() })
        .expect("load")
        .remove(0)
        .image
}

#[test]
fn what_is_leased_is_neither_pruned_nor_removed() {
    let (dir, store) = store();
    let used = load(&dir, &store, "used:1", &["shared", "used"]);
    load(&dir, &store, "idle:1", &["shared", "idle"]);
    let hold = store.hold().expect("hold");
    for user in ["b1a5-uid", "other"] {
        hold.lease(user, &used).expect("lease");
        hold.lease(user, &used).expect("lease it again");
    }
    drop(hold);
    // A view of its own, as another process has.
    let store = Store::open(store.path()).expect("open");
    let all = PruneOptions { all: true, ..PruneOptions::default() };
    let pruned = store.prune(&all).expect("prune");
    assert_eq!(
        pruned.images.iter().map(|image| image.references[0].familiar()).collect::<Vec<_>>(),
        ["idle:1"]
    );
    assert!(pruned.freed > 0 && !pruned.deferred);
    assert!(matches!(
        store.remove("used:1", false),
        Err(Error::InUse { users, .. }) if users == ["b1a5-uid", "other"]
    ));

    // By force it is out of sight, and its files stay for whoever uses them.
    let removed = store.remove("used:1", true).expect("by force");
    assert_eq!(removed.image, Some(used.id));
    assert_eq!(store.find("used:1").expect("find"), None);
    store.release("other").expect("release");
    assert_eq!(store.prune(&all).expect("prune").freed, 0);
    assert!(used.layers.iter().all(|layer| layer.join("etc/name").exists()));
    store.release("b1a5-uid").expect("release");
    store.release("b1a5-uid").expect("release again");
    assert!(store.prune(&all).expect("prune").freed > 0);
    assert_eq!(["blobs/sha256", "layers", "used", "leases"].map(|part| entries(&store, part)), [0; 4]);
}

#[test]
fn leases_of_another_boot_and_lost_ones_count_nothing() {
    let (dir, store) = store();
    let image = load(&dir, &store, "used:1", &["x"]);
    store.hold().and_then(|hold| hold.lease("pod", &image)).expect("lease");
    let path = store.path().join("leases/pod");
    let text = fs::read_to_string(&path).expect("read");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("read");
    for content in [text.replace(boot.trim(), "another"), String::new(), "\0".repeat(400)] {
        fs::write(&path, content).expect("write");
        fs::write(store.path().join("leases/.pod.new"), "{").expect("write");
        assert_eq!(store.leases().expect("leases"), []);
        assert!(store.collect_garbage().expect("collect"));
        assert_eq!(entries(&store, "leases"), 0);
    }
    // One that makes no sense is not taken for nothing.
    fs::write(&path, "{").expect("write");
    assert!(matches!(store.remove("used:1", false), Err(Error::Document { .. })));
    assert!(matches!(store.collect_garbage(), Err(Error::Document { .. })));
}

#[test]
fn a_user_s_name_cannot_be_a_path() {
    let (dir, store) = store();
    let image = load(&dir, &store, "used:1", &["x"]);
    let hold = store.hold().expect("hold");
    for user in ["", ".", "..", ".hidden", "a/b", "../x", "a b", "a\0b", "ü", &"x".repeat(201)] {
        assert!(matches!(hold.lease(user, &image), Err(Error::User(_))), "{user:?}");
        assert!(matches!(store.release(user), Err(Error::User(_))), "{user:?}");
    }
}

#[test]
fn young_images_are_not_pruned_when_that_is_asked_for() {
    let (dir, store) = store();
    let image = load(&dir, &store, "old:1", &["x"]);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    let blob = store.layout.blob(&image.manifest);
    fs::File::options()
        .write(true)
        .open(blob)
        .and_then(|file| file.set_modified(long_ago))
        .expect("set time");
    let unused_for =
        |seconds| PruneOptions { all: true, unused_for: std::time::Duration::from_secs(seconds) };
    assert_eq!(store.prune(&unused_for(7300)).expect("prune").images.len(), 0);
    store.hold().and_then(|hold| hold.lease("pod", &image)).expect("lease");
    store.release("pod").expect("release");
    assert_eq!(store.prune(&unused_for(3600)).expect("prune").images.len(), 0);
    assert_eq!(store.prune(&unused_for(0)).expect("prune").images.len(), 1);
}
