//! Attacks by archives and manifests, each with the protection that it would need to be off.
//!
//! Every attack is made twice: as things are, when it has to fail, and without its protection, when it has to succeed.
//! So each of these tests was red once, and is again every time it runs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use podrun_testkit::require;

use crate::digest::Digest;
use crate::error::{Error, Refusal, Result};
use crate::limits::{self, Limits};
use crate::load::LoadOptions;
use crate::manifest::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use crate::memory::Memory;
use crate::protection::{self, Protection, weak};
use crate::store::session::{Expected, Session};
use crate::store::testing::{join, write_facts};
use crate::store::{Loaded, Store};
use crate::stream::{Streamed, decompress};
use crate::sys;
use crate::tar_stream::TarReader;
use crate::testing::{Canary, TarFile, TestImage, done, gzip, to_tar, write_dir};
use crate::unpack::implied::{self, Quota};
use crate::unpack::{Stats, unpack};

/// Whether an attack succeeded, and how.
type Harm = Option<String>;

/// Makes an attack with and without the protection.
fn check(protection: Protection, attack: impl Fn() -> Harm) {
    if let Some(harm) = attack() {
        panic!("{protection:?} did not protect: {harm}");
    }
    let harm = weak::without(protection, &attack);
    assert!(harm.is_some(), "this test would not notice the lack of {protection:?}");
}

/// An archive unpacked beside a canary.
struct Unpacked {
    canary: Canary,
    root: PathBuf,
    result: Result<Stats>,
}

fn unpacked(make: impl FnOnce(&mut TarFile, &str)) -> Unpacked {
    unpacked_with(1 << 20, 10_000, make)
}

fn unpacked_with(max_bytes: u64, max_entries: u64, make: impl FnOnce(&mut TarFile, &str)) -> Unpacked {
    let canary = Canary::new();
    let root = canary.dir.path().join("layer");
    fs::create_dir(&root).expect("create");
    let mut tar = TarFile::new();
    make(&mut tar, canary.path().to_str().expect("text"));
    let bytes = tar.finish();
    let mut reader = TarReader::new(Streamed(&bytes[..]), max_entries);
    let result = unpack(&mut reader, File::open(&root).expect("open").into(), max_bytes, &Quota::default());
    Unpacked { canary, root, result }
}

impl Unpacked {
    /// Harm is a change of what is outside.
    fn outside(&self) -> Harm {
        (!self.canary.is_untouched()).then(|| format!("something outside changed: {:?}", self.result))
    }

    /// Harm is any other outcome than this refusal.
    fn other_than(&self, refusal: Refusal) -> Harm {
        match &self.result {
            Err(Error::Refused { source, .. }) if *source == refusal => None,
            other => Some(format!("{other:?}")),
        }
    }

    fn other_than_limit(&self, unit: &str) -> Harm {
        other_than_limit(&self.result, unit)
    }
}

fn other_than_limit<T: std::fmt::Debug>(result: &Result<T>, wanted: &str) -> Harm {
    match result {
        Err(Error::Limit { unit, .. }) if *unit == wanted => None,
        Ok(_) => Some("it was accepted".to_owned()),
        other => Some(format!("{other:?}")),
    }
}

mod paths {
    use super::*;

    #[test]
    fn a_link_to_a_directory_outside() {
        check(Protection::ResolveInRoot, || {
            unpacked(|tar, out| done(tar.symlink("l", out).file("l/new", "dead"))).outside()
        });
    }

    #[test]
    fn a_path_with_dot_dot() {
        check(Protection::ParentComponent, || unpacked(|tar, _| done(tar.file("..", "dead"))).outside());
        check(Protection::ParentComponent, || {
            unpacked(|tar, _| done(tar.file("a/../../canary/x", "dead"))).other_than(Refusal::ParentComponent)
        });
    }

    #[test]
    fn a_name_with_nul() {
        check(Protection::Nul, || {
            unpacked(|tar, _| done(tar.pax(&[("path", b"a\0/../canary")]).file("x", "")))
                .other_than(Refusal::Nul)
        });
    }

    #[test]
    fn a_file_written_through_a_link() {
        check(Protection::CreateExclusively, || {
            unpacked(|tar, out| {
                tar.symlink("l", &format!("{out}/file")).file("l", "dead");
            })
            .outside()
        });
    }

    #[test]
    fn a_hard_link_through_a_link() {
        // The link alone changes a file outside; a chmod through it, as in CVE-2021-32760, would be next.
        check(Protection::LinkNotFollowed, || {
            unpacked(|tar, out| {
                tar.symlink("l", &format!("{out}/file")).hard_link("h", "l");
            })
            .outside()
        });
    }

    #[test]
    fn a_whiteout_that_is_multiplied() {
        require!(root);
        check(Protection::HardLinkTarget, || {
            unpacked(|tar, _| done(tar.file(".wh.w", "").hard_link("w2", "w")))
                .other_than(Refusal::HardLinkTarget)
        });
    }

    #[test]
    fn something_else_in_place_of_the_root() {
        check(Protection::Root, || {
            unpacked(|tar, out| done(tar.symlink(".", out))).other_than(Refusal::Root)
        });
    }

    #[test]
    fn a_whiteout_of_the_parent() {
        require!(root);
        check(Protection::WhiteoutName, || {
            let unpacked = unpacked(|tar, _| done(tar.file(".wh...", "")));
            let parent = File::open(unpacked.canary.dir.path()).expect("open");
            let opaque = sys::fgetxattr(parent.as_fd(), c"trusted.overlay.opaque");
            opaque.is_ok().then(|| "the directory above the layer is opaque now".to_owned())
        });
    }

    #[test]
    fn a_file_in_a_file() {
        check(Protection::ParentNotDirectory, || {
            unpacked(|tar, _| done(tar.file("f", "").file("f/x", ""))).other_than(Refusal::ParentNotDirectory)
        });
    }
}

mod objects {
    use super::*;

    #[test]
    fn a_device_node() {
        require!(root);
        check(Protection::DeviceNode, || {
            let unpacked = unpacked(|tar, _| done(tar.dir("etc").device("etc/null")));
            let found = fs::symlink_metadata(unpacked.root.join("etc/null"));
            found.is_ok_and(|meta| meta.file_type().is_char_device()).then(|| "there is a device".to_owned())
        });
    }

    #[test]
    fn attributes_that_steer_overlayfs() {
        require!(root);
        for attribute in ["trusted.overlay.redirect", "trusted.overlay.opaque", "trusted.overlay.metacopy"] {
            check(Protection::Attributes, || {
                let name = format!("SCHILY.xattr.{attribute}");
                let unpacked = unpacked(|tar, _| done(tar.pax(&[(&name, b"y")]).dir("d")));
                let dir = File::open(unpacked.root.join("d")).expect("open");
                let names = sys::flistxattr(dir.as_fd()).expect("list");
                names.starts_with(b"trusted").then(|| format!("{attribute} is set"))
            });
        }
    }

    #[test]
    fn an_owner_that_becomes_another_when_it_is_cut() {
        check(Protection::Owner, || {
            let record: [(&str, &[u8]); 1] = [("uid", b"4294967296")];
            unpacked(|tar, _| done(tar.pax(&record).entry(b'0', "f", "", 0o4755, b"")))
                .other_than(Refusal::Owner)
        });
    }
}

mod bounds;

mod documents;
