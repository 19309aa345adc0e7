//! A disk that is full, at any byte.

use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use podrun_testkit::{child, require};

use super::*;
use crate::testing::{TestImage, to_tar};
use crate::{LoadOptions, Loaded};

/// Mounts a tmpfs with these options, or changes the one that is there.
fn tmpfs(at: &Path, options: &str, flags: MsFlags) {
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options)).expect("mount a tmpfs");
}

fn archive(dir: &Path) -> PathBuf {
    let mut seed = 7_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed.to_be_bytes()[0]
        })
        .take(length)
        .collect()
    };
    let layers: Vec<_> = (0..3)
        .map(|number| {
            let mut tar = TarFile::new();
            tar.dir("d").entry(b'0', "d/large", "", 0o644, &noise(120_000));
            (0..40).for_each(|file| drop_ref(tar.file(&format!("d/{number}-{file}"), "small")));
            tar.finish()
        })
        .collect();
    let path = dir.join("archive");
    fs::write(&path, to_tar(&TestImage::new(&layers).docker(&["x:1"]))).expect("write");
    path
}

fn drop_ref(_: &mut TarFile) {}

fn is_full(error: &Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        let errno = error.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32);
        if io.or(errno) == Some(libc::ENOSPC) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn load(store: &Store, archive: &Path) -> Result<Vec<Loaded>> {
    store.load(archive, &LoadOptions { replace: true, ..LoadOptions::default() })
}

#[test]
fn a_full_disk_is_told_leaves_nothing_and_is_recovered_from() {
    require!(root);
    let dir = tempfile::tempdir().expect("temporary directory");
    let archive = archive(dir.path());
    let at = dir.path().join("disk");
    fs::create_dir(&at).expect("create");
    child::run(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
        let (mut failed, mut done) = (0, 0);
        // In pages, then in files: what is needed is in between.
        let sizes = (8..420).step_by(6).map(|pages| format!("size={},nr_inodes=9999", pages * 4096));
        let counts = (24..240).step_by(9).map(|files| format!("size=9m,nr_inodes={files}"));
        for options in sizes.chain(counts) {
            tmpfs(&at, &options, MsFlags::empty());
            let loaded = Store::open(&at.join("store")).and_then(|store| load(&store, &archive));
            tmpfs(&at, "size=9m,nr_inodes=9999", MsFlags::MS_REMOUNT);
            let store = Store::open(&at.join("store")).expect("open");
            match loaded {
                Ok(_) => done += 1,
                Err(error) => {
                    failed += 1;
                    assert!(is_full(&error), "{options}: {error:?}");
                    let list = store.list().expect("list");
                    assert!(list.images.is_empty() && list.damaged.is_empty(), "{options}: {list:?}");
                    assert_eq!((entries(&store, "layers"), entries(&store, "tmp")), (0, 0), "{options}");
                }
            }
            load(&store, &archive).unwrap_or_else(|error| panic!("{options}: {error:?}"));
            let report = store.check(&CheckOptions::default(), |_| {}).expect("check");
            assert!(report.findings.is_empty(), "{options}: {:?}", report.findings);
            store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).expect("prune");
            assert_eq!(["blobs/sha256", "layers", "joins", "tmp"].map(|part| entries(&store, part)), [0; 4]);
            nix::mount::umount2(&at, nix::mount::MntFlags::MNT_DETACH).expect("unmount");
        }
        assert!(failed > 50 && done > 5, "{failed} failed, {done} done");
    });
}
