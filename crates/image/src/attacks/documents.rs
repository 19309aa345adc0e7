//! Manifests, indexes and layouts that say what is not so.

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
    let odd = String::from_utf8(image.manifest()).expect("text").replace(OCI_LAYER, "application/x-other");
    let archive = layout(OCI_MANIFEST, odd.as_bytes(), image.blobs());
    check(Protection::MediaType, || accepted(&archive));
}

#[test]
fn a_digest_that_is_a_path() {
    // CVE-2024-3727. Nothing may be looked for by such a name.
    for digest in ["sha256:../../../../etc/passwd", "sha256:%2e%2e", "md5:00", "sha512:00", "", "SHA256:00"] {
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
    let manifest =
        serde_json::json!({"schemaVersion": 2, "config": descriptor(OCI_CONFIG, &config), "layers": layers});
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
