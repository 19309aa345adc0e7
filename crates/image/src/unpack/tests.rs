use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use podrun_testkit::require;

use super::*;
use crate::stream::Streamed;
use crate::sys;
use crate::testing::{Canary, TarFile, done};

pub(crate) mod random;

/// Unpacks `bytes` beside a canary that must survive; returns the result and the layer's directory.
fn unpack_beside(canary: &Canary, bytes: &[u8]) -> (Result<Stats>, PathBuf) {
    let root = canary.dir.path().join("layer");
    drop(fs::remove_dir_all(&root));
    fs::create_dir(&root).expect("create");
    let mut tar = TarReader::new(Streamed(bytes), 10_000);
    let result = unpack(&mut tar, File::open(&root).expect("open").into(), 1 << 20, &Quota::default());
    (result, root)
}

fn unpacked(tar: &TarFile) -> (Canary, PathBuf, Stats) {
    let canary = Canary::new();
    let (result, root) = unpack_beside(&canary, &tar.finish());
    canary.assert_untouched("valid archive");
    (canary, root, result.expect("a valid archive"))
}

fn refusal(tar: &TarFile) -> Refusal {
    let canary = Canary::new();
    let (result, _) = unpack_beside(&canary, &tar.finish());
    canary.assert_untouched("refused archive");
    match result {
        Err(Error::Refused { source, .. }) => source,
        other => panic!("not refused: {other:?}"),
    }
}

fn is_opaque(path: &std::path::Path) -> bool {
    sys::fgetxattr(File::open(path).expect("open").as_fd(), c"trusted.overlay.opaque") == Ok(b"y".to_vec())
}

fn is_whiteout(path: &std::path::Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == 0)
}

#[test]
fn files_links_and_fifos_keep_what_they_are() {
    let mut tar = TarFile::new();
    tar.dir("./");
    tar.entry(b'5', "bin/", "", 0o1777, b"");
    tar.entry(b'0', "bin/su", "", 0o4755, b"set-id");
    tar.hard_link("bin/su2", "./bin/su");
    tar.symlink("bin/sh", "/../../../../canary/file");
    tar.hard_link("bin/sh2", "bin/sh");
    tar.fifo("bin/pipe");
    tar.file("implied/parents/here", "x");
    tar.entry(b'5', "closed", "", 0o500, b"").file("closed/inside", "y");
    let (_canary, root, stats) = unpacked(&tar);
    assert_eq!(stats.entries, 10);
    let meta = |path: &str| fs::symlink_metadata(root.join(path)).expect(path);
    assert_eq!(meta("bin").mode() & 0o7777, 0o1777);
    assert_eq!((meta("bin/su").mode() & 0o7777, meta("bin/su").nlink()), (0o4755, 2));
    assert_eq!(meta("bin/su").ino(), meta("bin/su2").ino());
    assert_eq!(meta("bin/sh").ino(), meta("bin/sh2").ino());
    assert_eq!(fs::read_link(root.join("bin/sh")).expect("link").to_str(), Some("/../../../../canary/file"));
    assert!(meta("bin/pipe").file_type().is_fifo());
    assert_eq!(meta("bin/pipe").mode() & 0o7777, 0o620);
    assert_eq!(meta("implied/parents").mode() & 0o7777, 0o755);
    assert_eq!(meta("closed").mode() & 0o7777, 0o500);
    for path in ["", "bin", "bin/su", "bin/sh", "bin/pipe", "closed"] {
        assert_eq!(meta(path).mtime(), 1_600_000_000, "{path:?}");
    }
}

#[test]
fn holes_stay_holes() {
    let mut tar = TarFile::new();
    tar.pax(&[("GNU.sparse.size", b"1000000"), ("GNU.sparse.map", b"500000,3")]).file("sparse", "abc");
    let (_canary, root, _) = unpacked(&tar);
    let bytes = fs::read(root.join("sparse")).expect("read");
    assert_eq!((bytes.len(), &bytes[500_000..500_003]), (1_000_000, &b"abc"[..]));
    assert!(bytes.iter().filter(|&&byte| byte != 0).count() == 3);
    assert!(fs::metadata(root.join("sparse")).expect("stat").blocks() < 100);
}

type Case<'c> = (&'c str, Box<dyn Fn(&mut TarFile, &str) + 'c>);

#[test]
fn nothing_leads_out_of_the_layer() {
    // Each either is refused or stays inside; the canary is checked after each.
    let deep = "../".repeat(12);
    let up = |rest: &str| format!("{deep}{rest}");
    let cases: Vec<Case<'_>> = vec![
        ("dot dot", Box::new(|tar, out| done(tar.file(&up(&out[1..]), "dead")))),
        ("absolute", Box::new(|tar, out| done(tar.file(&format!("{out}/file"), "dead")))),
        ("absolute directory", Box::new(|tar, out| done(tar.entry(b'5', out, "", 0o777, b"")))),
        (
            "symlink to a file",
            Box::new(|tar, out| {
                tar.symlink("l", &format!("{out}/file")).file("l", "dead");
            }),
        ),
        ("symlinked parent", Box::new(|tar, out| done(tar.symlink("l", out).file("l/file", "dead")))),
        ("symlink up", Box::new(|tar, _| done(tar.symlink("l", "../canary").file("l/file", "dead")))),
        (
            "symlinks in a chain",
            Box::new(|tar, _| {
                tar.symlink("a", "..").symlink("b", "a/../canary").file("b/file", "dead");
            }),
        ),
        (
            "directory through a symlink",
            Box::new(|tar, out| {
                tar.symlink("l", out).dir("l").dir("l/new").entry(b'5', "l", "", 0o700, b"");
            }),
        ),
        (
            "parents through a symlink",
            Box::new(|tar, out| done(tar.symlink("l", out).file("l/a/b/c", "dead"))),
        ),
        (
            "hard link to an absolute path",
            Box::new(|tar, out| {
                tar.hard_link("h", &format!("{out}/file")).file("h", "dead");
            }),
        ),
        ("hard link up", Box::new(|tar, _| done(tar.hard_link("h", "../canary/file")))),
        (
            "hard link through a symlink",
            Box::new(|tar, out| {
                tar.symlink("l", out).hard_link("h", "l/file");
            }),
        ),
        (
            "chmod through a hard link to a symlink",
            Box::new(|tar, out| {
                tar.symlink("l", &format!("{out}/file")).entry(b'1', "h", "l", 0o4777, b"");
                tar.entry(b'1', "h", "l", 0o4777, b"");
            }),
        ),
        (
            "directory replaced by a symlink",
            Box::new(|tar, out| {
                tar.dir("d").file("d/x", "1").symlink("d", out).file("d/file", "dead").dir("d");
            }),
        ),
        (
            "whiteout through a symlink",
            Box::new(|tar, out| {
                tar.symlink("l", out).file("l/.wh.file", "").file("l/.wh..wh..opq", "");
            }),
        ),
        (
            "fifo over a symlink",
            Box::new(|tar, out| done(tar.symlink("l", &format!("{out}/file")).fifo("l"))),
        ),
        ("symlink loop", Box::new(|tar, _| done(tar.symlink("a", "b").symlink("b", "a").file("a/x", "")))),
        (
            "magic link",
            Box::new(|tar, _| {
                tar.symlink("l", "/proc/self/root").file("l/canary", "dead").file("proc/self/root/x", "dead");
            }),
        ),
        (
            "pax path",
            Box::new(|tar, out| {
                tar.pax(&[("path", format!("../..{out}/file").as_bytes())]).file("x", "dead");
            }),
        ),
        (
            "pax link",
            Box::new(|tar, out| {
                tar.pax(&[("linkpath", format!("{out}/file").as_bytes())])
                    .hard_link("x", "y")
                    .file("x", "dead");
            }),
        ),
        ("file over the root", Box::new(|tar, _| done(tar.file("./", "")))),
        ("symlink over the root", Box::new(|tar, out| done(tar.symlink(".", out).file("x", "")))),
    ];
    for (case, make) in cases {
        let canary = Canary::new();
        let mut tar = TarFile::new();
        make(&mut tar, canary.path().to_str().expect("text"));
        let (result, root) = unpack_beside(&canary, &tar.finish());
        canary.assert_untouched(case);
        if let Err(error) = result {
            assert!(matches!(error, Error::Refused { .. } | Error::Unpack { .. }), "{case}: {error:?}");
        }
        assert!(fs::symlink_metadata(&root).expect(case).is_dir(), "{case}: the root is still a directory");
    }
}

#[test]
fn what_has_no_place_in_a_layer_is_refused() {
    for (make, expected) in [
        (
            Box::new(|tar: &mut TarFile| done(tar.device("etc/null"))) as Box<dyn Fn(&mut TarFile)>,
            Refusal::DeviceNode,
        ),
        (Box::new(|tar| done(tar.entry(b'4', "sda", "", 0o600, b""))), Refusal::DeviceNode),
        (Box::new(|tar| done(tar.device("dev"))), Refusal::DeviceNode),
        (Box::new(|tar| done(tar.file("a/../../b", ""))), Refusal::ParentComponent),
        (Box::new(|tar| done(tar.hard_link("a", "../b"))), Refusal::ParentComponent),
        (Box::new(|tar| done(tar.hard_link("a", "absent"))), Refusal::HardLinkTarget),
        (Box::new(|tar| done(tar.hard_link("a", ""))), Refusal::HardLinkTarget),
        (Box::new(|tar| done(tar.dir("d").hard_link("a", "d"))), Refusal::HardLinkTarget),
        (Box::new(|tar| done(tar.symlink("a", ""))), Refusal::EmptyPath),
        (Box::new(|tar| done(tar.file(".wh..", ""))), Refusal::Whiteout),
        (Box::new(|tar| done(tar.file("d/.wh...", ""))), Refusal::Whiteout),
        (Box::new(|tar| done(tar.file(".wh.", ""))), Refusal::Whiteout),
        (Box::new(|tar| done(tar.file("f", "").file("f/x", ""))), Refusal::ParentNotDirectory),
        (Box::new(|tar| done(tar.symlink("l", "gone").file("l/x", ""))), Refusal::ParentNotDirectory),
        (Box::new(|tar| done(tar.file(".", ""))), Refusal::Root),
    ] {
        let mut tar = TarFile::new();
        make(&mut tar);
        assert_eq!(refusal(&tar), expected);
    }
}

#[test]
fn devices_below_dev_are_dropped_and_counted() {
    let mut tar = TarFile::new();
    tar.dir("dev")
        .device("dev/null")
        .entry(b'4', "./dev/sda", "", 0o600, b"")
        .symlink("dev/fd", "/proc/self/fd");
    let (_canary, root, stats) = unpacked(&tar);
    assert_eq!(stats.skipped.devices, 2);
    assert_eq!(fs::read_dir(root.join("dev")).expect("read").count(), 1);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let mut tar = TarFile::new();
    tar.file("a", "1").file("a", "2");
    tar.dir("d").file("d/x", "").file("d", "now a file");
    tar.symlink("l", "a").file("l", "no link any more");
    tar.entry(b'5', "e", "", 0o700, b"").file("e/kept", "").entry(b'5', "e", "", 0o711, b"");
    tar.file("h", "h").hard_link("h2", "h").hard_link("h2", "h").hard_link("h", "h");
    let (_canary, root, _) = unpacked(&tar);
    let read = |path: &str| fs::read_to_string(root.join(path)).expect(path);
    assert_eq!(
        (read("a"), read("d"), read("l")),
        ("2".into(), "now a file".into(), "no link any more".into())
    );
    assert!(root.join("e/kept").exists());
    assert_eq!(fs::metadata(root.join("e")).expect("stat").permissions().mode() & 0o7777, 0o711);
    assert_eq!(fs::metadata(root.join("h")).expect("stat").nlink(), 2);
}

#[test]
fn whiteouts_become_overlayfs_whiteouts() {
    require!(root);
    let mut tar = TarFile::new();
    tar.file(".wh.gone", "").dir("d").file("d/.wh.gone", "").file("d/.wh.gone", "");
    tar.dir("o").file("o/.wh..wh..opq", "").file("o/new", "");
    tar.file("implied/.wh..wh..opq", "");
    tar.file(".wh..wh.plnk/0", "").file("d/.wh..wh.aufs", "");
    // Beside an object of the same layer, in either order (containerd has met both).
    tar.file(".wh.before", "").file("before", "kept").file("after", "kept").file(".wh.after", "");
    tar.file(".wh.dir1", "")
        .dir("dir1")
        .file("dir1/x", "")
        .dir("dir2")
        .file("dir2/x", "")
        .file(".wh.dir2", "");
    tar.file(".wh.implied2", "").file("implied2/x", "");
    // Below something that is removed or a file: nothing is left to hide.
    tar.file(".wh.tree", "").file("tree/.wh.leaf", "").file("tree/sub/.wh..wh..opq", "");
    tar.dir("was-dir").file("was-dir", "").dir("was-dir");
    let (_canary, root, stats) = unpacked(&tar);
    for path in ["gone", "d/gone", "tree"] {
        assert!(is_whiteout(&root.join(path)), "{path}");
    }
    for path in ["o", "implied", "dir1", "dir2", "implied2", "was-dir"] {
        assert!(is_opaque(&root.join(path)), "{path}");
    }
    assert!(!is_opaque(&root.join("d")));
    for path in ["before", "after"] {
        assert_eq!(fs::read_to_string(root.join(path)).expect(path), "kept");
    }
    assert!(root.join("dir2/x").exists() && root.join("o/new").exists());
    assert!(
        fs::read_dir(&root)
            .expect("read")
            .all(|entry| { !entry.expect("entry").file_name().as_encoded_bytes().starts_with(b".wh.") })
    );
    assert!(!stats.opaque_root);
    assert!(unpacked(TarFile::new().file(".wh..wh..opq", "")).2.opaque_root);
    assert_eq!(refusal(TarFile::new().file(".wh.w", "").hard_link("w2", "w")), Refusal::HardLinkTarget);
}

#[test]
fn whiteouts_that_hide_nothing_are_not_seen() {
    require!(root, overlay);
    let mut tar = TarFile::new();
    tar.dir("new").file("new/.wh.gone", "").file("new/there", "");
    tar.dir("fresh").file("fresh/.wh.gone", "").file("fresh/.wh..wh..opq", "").file("fresh/there", "");
    let (canary, root, _) = unpacked(&tar);
    assert!(is_whiteout(&root.join("new/gone")) && !root.join("fresh/gone").exists());
    let (base, target) = (canary.dir.path().join("base"), canary.dir.path().join("mount"));
    fs::create_dir(&base).and_then(|()| fs::create_dir(&target)).expect("create");
    podrun_testkit::child::run(|| {
        use nix::mount::{MsFlags, mount};
        let none: Option<&str> = None;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
        // As the uppermost layer, and as the lowest.
        for (upper, lower) in [(&root, &base), (&base, &root)] {
            let options = format!("lowerdir={}:{}", upper.display(), lower.display());
            mount(none, &target, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str())).expect("mount");
            for dir in ["new", "fresh"] {
                let entries = fs::read_dir(target.join(dir)).expect("read");
                let names: Vec<_> = entries.map(|entry| entry.expect("entry").file_name()).collect();
                assert_eq!(names, ["there"], "{dir}");
            }
        }
    });
}

#[test]
fn owners_and_attributes_are_kept_or_dropped_by_the_rule() {
    require!(root);
    let capability = b"\x01\0\0\x02\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut tar = TarFile::new();
    tar.owner = (1234, 65_534);
    tar.pax(&[
        ("SCHILY.xattr.security.capability", capability),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.selinux", b"x"),
    ]);
    tar.entry(b'0', "ping", "", 0o6755, b"x");
    tar.pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")]).dir("d");
    tar.symlink("l", "x").fifo("p");
    tar.pax(&[("uid", b"4000000000"), ("mtime", b"-1.5")]).file("big", "");
    let (_canary, root, stats) = unpacked(&tar);
    let meta = |path: &str| fs::symlink_metadata(root.join(path)).expect(path);
    for path in ["ping", "d", "l", "p"] {
        assert_eq!((meta(path).uid(), meta(path).gid()), (1234, 65_534), "{path}");
    }
    assert_eq!((meta("big").uid(), meta("big").mtime()), (4_000_000_000, -2));
    assert_eq!(meta("ping").mode() & 0o7777, 0o6755, "set-id bits survive the change of owner");
    assert_eq!(stats.skipped.xattrs, 4);
    let ping = File::open(root.join("ping")).expect("open");
    assert_eq!(sys::fgetxattr(ping.as_fd(), c"security.capability").as_deref(), Ok(&capability[..]));
    let names = sys::flistxattr(ping.as_fd()).expect("list");
    assert!(!names.windows(7).any(|part| part == b"trusted" || part == b"overlay"), "{names:?}");
    assert!(!is_opaque(&root.join("d")));
}

#[test]
fn files_are_bounded_before_they_are_written() {
    let canary = Canary::new();
    let mut tar = TarFile::new();
    tar.pax(&[("GNU.sparse.size", b"1048577"), ("GNU.sparse.map", b"0,1")]).file("holes", "a");
    let (result, root) = unpack_beside(&canary, &tar.finish());
    assert!(matches!(result, Err(Error::Limit { max: 1_048_576, .. })), "{result:?}");
    assert!(!root.join("holes").exists());
}

#[test]
fn depth_is_counted_through_links() {
    // Each path is short, but links make the tree deeper and deeper.
    let mut tar = TarFile::new();
    let mut top = String::new();
    for step in 0..9 {
        let path = format!("{top}{}", "d/".repeat(30));
        tar.dir(path.trim_end_matches('/'));
        let link = format!("l{step}");
        tar.symlink(&link, path.trim_end_matches('/'));
        top = format!("{link}/");
    }
    let canary = Canary::new();
    let (result, _) = unpack_beside(&canary, &tar.finish());
    assert!(matches!(result, Err(Error::Limit { unit: "directories in each other", .. })), "{result:?}");
}
