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
use crate::store::{Loaded, Store};
use crate::stream::{Streamed, decompress};
use crate::sys;
use crate::tar_stream::TarReader;
use crate::testing::{Canary, TarFile, TestImage, done, gzip, to_tar, write_dir};
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
    let result = unpack(&mut reader, File::open(&root).expect("open").into(), max_bytes);
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

mod bounds {
    use super::*;

    /// Loads an image with narrow limits.
    fn load(layers: &[Vec<u8>]) -> Result<Vec<Loaded>> {
        let limits = Limits::default().with_unpacked_bytes(1 << 20);
        super::documents::load_with(&to_tar(&TestImage::new(layers).oci(None)), |options| {
            options.limits = limits;
        })
    }

    #[test]
    fn bytes_that_come_out_of_a_small_blob() {
        let mut zeros = TarFile::new().file("x", "").finish();
        zeros.resize(3 << 20, 0);
        let small = TarFile::new().file("x", "").finish();
        // Uncompressed, gzip, zstd.
        for place in 0..3 {
            let mut layers = vec![small.clone(); place];
            layers.push(zeros.clone());
            check(Protection::UnpackedBytes, || other_than_limit(&load(&layers), "unpacked bytes"));
        }
    }

    #[test]
    fn bytes_that_are_holes() {
        check(Protection::FileBytes, || {
            unpacked(|tar, _| {
                let map: [(&str, &[u8]); 2] =
                    [("GNU.sparse.size", b"1000000000000"), ("GNU.sparse.map", b"0,1")];
                tar.pax(&map).file("holes", "a");
            })
            .other_than_limit("unpacked bytes")
        });
    }

    #[test]
    fn entries_and_headers_without_end() {
        check(Protection::Entries, || {
            unpacked_with(1 << 20, 20, |tar, _| (0..21).for_each(|_| done(tar.file("f", ""))))
                .other_than_limit("entries")
        });
        check(Protection::ExtendedHeaders, || {
            unpacked_with(1 << 20, 20, |tar, _| {
                (0..81).for_each(|_| done(tar.entry(b'g', "global", "", 0, b"")));
                tar.file("f", "");
            })
            .other_than_limit("extended headers")
        });
        check(Protection::ImpliedDirectories, || {
            unpacked_with(1 << 20, 20, |tar, _| done(tar.file(&"d/".repeat(45), "")))
                .other_than_limit("directories")
        });
    }

    #[test]
    fn directories_whose_paths_fill_the_memory() {
        let path = format!("{}/", "d".repeat(250)).repeat(16);
        let count = limits::MAX_DIRECTORY_BYTES / path.len() as u64 + 2;
        check(Protection::DirectoryBytes, || {
            // Each time counts, also of the same directory, which a disk is done with sooner.
            unpacked_with(1 << 20, 100_000, |tar, _| {
                (0..count).for_each(|_| done(tar.pax(&[("path", path.as_bytes())]).dir("x")));
            })
            .other_than_limit("bytes of directory paths")
        });
    }

    #[test]
    fn names_that_are_too_long() {
        check(Protection::PathBytes, || {
            let path = "twenty-one-characters/".repeat(190);
            unpacked(|tar, _| done(tar.pax(&[("path", path.as_bytes())]).file("x", "")))
                .other_than_limit("bytes of path")
        });
        check(Protection::NameBytes, || {
            unpacked(|tar, _| done(tar.pax(&[("path", "x".repeat(256).as_bytes())]).file("x", "")))
                .other_than_limit("bytes of name")
        });
        check(Protection::HeaderBytes, || {
            unpacked(|tar, _| done(tar.pax(&[("comment", &vec![b'x'; 1 << 20])]).file("x", "")))
                .other_than_limit("bytes of extended header")
        });
    }

    #[test]
    fn trees_that_are_too_deep() {
        check(Protection::Depth, || {
            other_than_limit(
                &crate::unpack::path::clean("a/".repeat(257).as_bytes()),
                "directories in each other",
            )
        });
        check(Protection::DepthThroughLinks, || {
            unpacked(|tar, _| {
                let mut top = String::new();
                for step in 0..9 {
                    let path = format!("{top}{}", "d/".repeat(30));
                    let link = format!("l{step}");
                    tar.dir(path.trim_end_matches('/')).symlink(&link, path.trim_end_matches('/'));
                    top = format!("{link}/");
                }
            })
            .other_than_limit("directories in each other")
        });
    }

    #[test]
    fn a_sparse_file_in_countless_parts() {
        let map = (0..=limits::MAX_SPARSE_SEGMENTS).map(|n| format!("{n},0")).collect::<Vec<_>>().join(",");
        check(Protection::SparseSegments, || {
            unpacked(|tar, _| {
                tar.pax(&[("GNU.sparse.size", b"999999"), ("GNU.sparse.map", map.as_bytes())]).file("f", "");
            })
            .other_than_limit("segments of a sparse file")
        });
    }

    #[test]
    fn a_zstd_window_as_large_as_memory() {
        let layer = TarFile::new().file("x", "").finish();
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("encoder");
        encoder.window_log(limits::MAX_ZSTD_WINDOW_LOG + 1).expect("window");
        encoder.include_contentsize(false).expect("parameter");
        io::Write::write_all(&mut encoder, &layer).expect("memory");
        let mut image = TestImage::new(&[layer]);
        image.layers[0].0 = encoder.finish().expect("memory");
        let archive = to_tar(&image.oci(None));
        check(Protection::ZstdWindow, || {
            super::documents::load(&archive).is_ok().then(|| "it was decompressed".to_owned())
        });
    }

    #[test]
    fn many_large_zstd_windows_at_a_time() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("encoder");
        encoder.window_log(limits::MAX_ZSTD_WINDOW_LOG).expect("window");
        io::Write::write_all(&mut encoder, b"x").expect("memory");
        let frame = encoder.finish().expect("memory");
        check(Protection::DecoderMemory, || {
            let memory = Memory::default();
            let begin = || {
                let (_, mut stream) = decompress(&frame[..], &memory).expect("zstd");
                stream.read_exact(&mut [0]).expect("it begins");
                stream
            };
            let first = begin();
            let (told, telling) = std::sync::mpsc::channel();
            let inherited = protection::inherit();
            std::thread::scope(|scope| {
                let begin = &begin;
                scope.spawn(move || {
                    inherited.apply();
                    drop(begin());
                    told.send(()).expect("somebody listens");
                });
                let second = telling.recv_timeout(std::time::Duration::from_millis(500));
                drop(first);
                second.ok().map(|()| "two decoders had the largest window at a time".to_owned())
            })
        });
    }

    /// Counts what is read of an endless stream; after 16 MiB it ends all the same.
    struct Endless<'c>(&'c AtomicU64);

    impl Read for Endless<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.fetch_add(buffer.len() as u64, Ordering::Relaxed) > 16 << 20 {
                return Ok(0);
            }
            buffer.fill(0);
            Ok(buffer.len())
        }
    }

    #[test]
    fn a_blob_that_does_not_end_where_it_should() {
        check(Protection::BlobBytes, || {
            let dir = tempfile::tempdir().expect("temporary directory");
            let store = Store::open(dir.path()).expect("open");
            let session = Session::begin(&store.layout, Limits::default()).expect("begin");
            let read = AtomicU64::new(0);
            let expected = Expected { blob: Some((Digest::of(b""), 1000)), diff_id: None };
            session.layer(Endless(&read), expected).expect_err("it has another digest too");
            let read = read.into_inner();
            (read > 1 << 20).then(|| format!("{read} bytes were read of 1000"))
        });
    }
}

mod documents {
    use super::*;

    pub(super) fn load_with(archive: &[u8], set: impl FnOnce(&mut LoadOptions)) -> Result<Vec<Loaded>> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("store")).expect("open");
        let path = dir.path().join("archive");
        fs::write(&path, archive).expect("write");
        let mut options = LoadOptions::default();
        set(&mut options);
        store.load(&path, &options)
    }

    pub(super) fn load(archive: &[u8]) -> Result<Vec<Loaded>> {
        load_with(archive, |_| {})
    }

    fn accepted(archive: &[u8]) -> Harm {
        load(archive).is_ok().then(|| "it was accepted".to_owned())
    }

    fn image() -> TestImage {
        TestImage::new(&[TarFile::new().file("x", "content").finish()])
    }

    fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
        serde_json::json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
    }

    /// A layout whose index has this one document.
    fn layout(media_type: &str, document: &[u8], blobs: Vec<(String, Vec<u8>)>) -> Vec<u8> {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [descriptor(media_type, document)]});
        let mut files = blobs;
        files.push((format!("blobs/sha256/{}", Digest::of(document).hex()), document.to_vec()));
        files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        files.push(("oci-layout".to_owned(), b"{}".to_vec()));
        to_tar(&files)
    }

    #[test]
    fn a_document_that_is_a_manifest_and_an_index() {
        // CVE-2021-41190.
        let image = image();
        let mut both: serde_json::Value = serde_json::from_slice(&image.manifest()).expect("JSON");
        both["manifests"] = serde_json::json!([descriptor(OCI_MANIFEST, b"another image")]);
        both.as_object_mut().expect("an object").remove("mediaType");
        let archive = layout(OCI_MANIFEST, both.to_string().as_bytes(), image.blobs());
        check(Protection::OneKind, || match load(&archive) {
            Err(Error::Contradiction { reason: "has both manifests and layers", .. }) => None,
            other => Some(format!("{other:?}")),
        });
    }

    #[test]
    fn a_document_that_says_it_is_something_else() {
        let image = image();
        let archive = layout(OCI_INDEX, &image.manifest(), image.blobs());
        check(Protection::MediaType, || accepted(&archive));
        let odd = String::from_utf8(image.manifest()).expect("text").replace(OCI_CONFIG, "text/html");
        let archive = layout(OCI_MANIFEST, odd.as_bytes(), image.blobs());
        check(Protection::MediaType, || accepted(&archive));
        let odd =
            String::from_utf8(image.manifest()).expect("text").replace(OCI_LAYER, "application/x-other");
        let archive = layout(OCI_MANIFEST, odd.as_bytes(), image.blobs());
        check(Protection::MediaType, || accepted(&archive));
    }

    #[test]
    fn a_digest_that_is_a_path() {
        // CVE-2024-3727. Nothing may be looked for by such a name.
        for digest in
            ["sha256:../../../../etc/passwd", "sha256:%2e%2e", "md5:00", "sha512:00", "", "SHA256:00"]
        {
            let index = serde_json::json!({"schemaVersion": 2, "manifests": [
                {"mediaType": OCI_MANIFEST, "digest": digest, "size": 5}]});
            let files = [
                ("index.json".to_owned(), index.to_string().into_bytes()),
                ("oci-layout".to_owned(), b"{}".to_vec()),
            ];
            check(Protection::DigestSyntax, || match load(&to_tar(&files)) {
                Err(Error::Document { .. }) => None,
                other => Some(format!("{digest}: {other:?}")),
            });
        }
    }

    #[test]
    fn a_blob_with_another_digest() {
        // The same layer compressed once more, and so with the same files: only the blob's own digest tells.
        let layer = TarFile::new().file("x", "content").finish();
        let mut image = TestImage::new(std::slice::from_ref(&layer));
        image.layers[0].0 = gzip(&layer);
        let (real, announced) = (Digest::of(&image.layers[0].0).hex(), Digest::of(b"announced").hex());
        let manifest = String::from_utf8(image.manifest()).expect("text").replace(&real, &announced);
        let mut blobs = image.blobs();
        blobs[0].0 = format!("blobs/sha256/{announced}");
        let archive = layout(OCI_MANIFEST, manifest.as_bytes(), blobs);
        check(Protection::BlobDigest, || accepted(&archive));
    }

    #[test]
    fn a_layer_with_another_digest_once_it_is_decompressed() {
        let image = image();
        let mut config: serde_json::Value = serde_json::from_slice(&image.config).expect("JSON");
        config["rootfs"]["diff_ids"] = serde_json::json!([Digest::of(b"the layer that was scanned")]);
        let lying = TestImage { config: config.to_string().into_bytes(), ..image };
        for files in [lying.oci(None), lying.docker(&["x:1"])] {
            check(Protection::DiffId, || match load(&to_tar(&files)) {
                Err(Error::DigestMismatch { what: "layer after decompression", .. }) => None,
                other => Some(format!("{other:?}")),
            });
        }
    }

    #[test]
    fn a_configuration_with_another_digest() {
        let mut files = image().docker(&["x:1"]);
        let config = files.iter_mut().find(|(_, bytes)| *bytes == image().config).expect("configuration");
        config.1.push(b' ');
        check(Protection::ConfigDigest, || accepted(&to_tar(&files)));
    }

    #[test]
    fn documents_that_are_too_long_or_too_many() {
        let mut files = image().docker(&["x:1"]);
        let manifest = files.iter_mut().find(|(path, _)| path == "manifest.json").expect("manifest");
        manifest.1.extend(vec![b' '; 5 << 20]);
        check(Protection::DocumentBytes, || accepted(&to_tar(&files)));

        let many: Vec<_> = (0..1001).map(|_| descriptor(OCI_MANIFEST, b"absent")).collect();
        let index = serde_json::json!({"schemaVersion": 2, "manifests": many});
        let files = [("index.json", index.to_string()), ("oci-layout", "{}".to_owned())]
            .map(|(path, text)| (path.to_owned(), text.into_bytes()));
        check(Protection::Images, || other_than_limit(&load(&to_tar(&files)), "images"));

        let layers: Vec<_> = (0..500).map(|_| descriptor(OCI_LAYER, b"absent")).collect();
        let config = image().config;
        let manifest = serde_json::json!({"schemaVersion": 2, "config": descriptor(OCI_CONFIG, &config), "layers": layers});
        let archive = layout(OCI_MANIFEST, manifest.to_string().as_bytes(), image().blobs());
        check(Protection::Layers, || other_than_limit(&load(&archive), "layers"));
    }

    #[test]
    fn indexes_that_lead_to_indexes() {
        let image = image();
        let mut blobs = image.blobs();
        let (mut document, mut kind) = (image.manifest(), OCI_MANIFEST);
        for _ in 0..6 {
            let index = serde_json::json!({"schemaVersion": 2, "manifests": [descriptor(kind, &document)]});
            blobs.push((format!("blobs/sha256/{}", Digest::of(&document).hex()), document));
            (document, kind) = (index.to_string().into_bytes(), OCI_INDEX);
        }
        let archive = layout(OCI_INDEX, &document, blobs);
        check(Protection::IndexDepth, || accepted(&archive));
    }

    #[test]
    fn an_archive_with_countless_members() {
        let mut files = TarFile::new();
        for (path, bytes) in image().docker(&["x:1"]) {
            files.entry(b'0', &path, "", 0o644, &bytes);
        }
        let mut bytes = files.cut();
        let filler = TarFile::new().file("filler", "").cut();
        bytes.extend(filler.repeat(usize::try_from(limits::MAX_ARCHIVE_MEMBERS).expect("small")));
        bytes.resize(bytes.len() + 1024, 0);
        check(Protection::ArchiveMembers, || accepted(&bytes));
    }

    #[test]
    fn names_in_a_directory_that_lead_outside() {
        check(Protection::SourceBelow, || {
            let dir = tempfile::tempdir().expect("temporary directory");
            let (image, source) = (image(), dir.path().join("source"));
            write_dir(&source, &image.docker(&["x:1"]));
            let config = source.join(format!("{}.json", Digest::of(&image.config).hex()));
            fs::rename(&config, dir.path().join("outside")).expect("rename");
            std::os::unix::fs::symlink(dir.path().join("outside"), &config).expect("symlink");
            let store = Store::open(&dir.path().join("store")).expect("open");
            store.load(&source, &LoadOptions::default()).is_ok().then(|| "a file outside was read".to_owned())
        });
    }

    #[test]
    fn a_fifo_that_would_block_for_ever() {
        check(Protection::SourceIsFile, || {
            let dir = tempfile::tempdir().expect("temporary directory");
            let (image, source) = (image(), dir.path().join("source"));
            write_dir(&source, &image.docker(&["x:1"]));
            let config = source.join(format!("{}.json", Digest::of(&image.config).hex()));
            fs::remove_file(&config).expect("remove");
            nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
            let store = Store::open(&dir.path().join("store")).expect("open");
            match store.load(&source, &LoadOptions::default()) {
                Err(Error::File { action: "open", .. }) => None,
                other => Some(format!("it was read: {other:?}")),
            }
        });
    }

    #[test]
    fn an_archive_that_takes_the_name_of_another_image() {
        // CVE-2026-50195 class: tag poisoning by import.
        check(Protection::NameTaken, || {
            let dir = tempfile::tempdir().expect("temporary directory");
            let store = Store::open(&dir.path().join("store")).expect("open");
            let path = dir.path().join("archive");
            fs::write(&path, to_tar(&image().docker(&["app:1"]))).expect("write");
            let good = store.load(&path, &LoadOptions::default()).expect("load").remove(0).image;
            let evil = TestImage::new(&[TarFile::new().file("x", "evil").finish()]);
            fs::write(&path, to_tar(&evil.docker(&["app:1"]))).expect("write");
            drop(store.load(&path, &LoadOptions::default()));
            let now = store.find("app:1").expect("find").expect("it is there");
            (now.id != good.id).then(|| "the name means another image now".to_owned())
        });
    }
}
