//! Images that would fill the disk, the memory, or the time of whoever takes them.

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
            let map: [(&str, &[u8]); 2] = [("GNU.sparse.size", b"1000000000000"), ("GNU.sparse.map", b"0,1")];
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
}

#[test]
fn directories_that_are_not_listed() {
    // One entry makes many of them.
    check(Protection::ImpliedDirectories, || {
        let deep = "d/".repeat(250);
        let of_entry = (deep.len() * 250 / 2) as u64 + 250 * 64;
        let count = limits::MAX_IMPLIED_BYTES / of_entry + 2;
        unpacked_with(1 << 20, 100_000, |tar, _| {
            for number in 0..count {
                tar.pax(&[("path", format!("{number}/{deep}f").as_bytes())]).file("x", "");
            }
        })
        .other_than_limit(implied::UNIT)
    });
}

#[test]
fn layers_that_only_together_list_too_little() {
    check(Protection::ImpliedInAll, || {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = "d/".repeat(2000);
        let count = limits::MAX_IMPLIED_BYTES / path.len() as u64 / 2;
        let layers = ["lower", "upper"].map(|name| {
            let layer = dir.path().join(name);
            fs::create_dir_all(layer.join("diff")).expect("create");
            let implied = (0..count).map(|number| format!("{number}/{path}").into_bytes()).collect();
            let stats = Stats { implied, ..Stats::default() };
            write_facts(&layer, Digest::of(name.as_bytes()), &stats);
            layer
        });
        assert!(join(&layers[..1], &dir.path().join("one")).is_ok(), "one alone may");
        other_than_limit(&join(&layers, &dir.path().join("both")), implied::UNIT)
    });
}

#[test]
fn a_document_of_countless_items() {
    check(Protection::DocumentItems, || {
        let mut image = TestImage::new(&[TarFile::new().file("x", "").finish()]);
        let env = vec![""; usize::try_from(limits::MAX_DOCUMENT_ITEMS).expect("small") + 1];
        let mut config: serde_json::Value = serde_json::from_slice(&image.config).expect("JSON");
        config["config"]["Env"] = env.into();
        image.config = config.to_string().into_bytes();
        super::documents::load(&to_tar(&image.oci(None))).is_ok().then(|| "it was loaded".to_owned())
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
