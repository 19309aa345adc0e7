//! Archives and stores that lie, are broken or ask for too much.

use super::*;

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
        bench.load(&to_tar(&TestImage::new(&[layer("other")]).docker(&["y:1"]))).ok();
        let error = match bench.store.list() {
            // It hides no other.
            Ok(mut list) => {
                assert_eq!((list.images.len(), list.damaged.len()), (1, 1));
                assert_eq!(list.damaged[0].references, [name("x:1")]);
                list.damaged.remove(0).error
            }
            Err(error) => error,
        };
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
    assert_eq!(bench.images().len(), 2);

    let (bench, version) = (Bench::new(), "99\n");
    fs::write(bench.store.path().join("version"), version).expect("write");
    assert!(
        matches!(Store::open(bench.store.path()), Err(Error::StoreVersion { found, .. }) if found == "99")
    );
}
