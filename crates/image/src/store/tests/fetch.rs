//! Layers that come over a network, in parts and to several at once.

use super::*;

struct Blob {
    bytes: Vec<u8>,
    digest: Digest,
    diff_id: Digest,
}

/// A layer that does not compress well, so that a part of it is a part of its files.
fn blob(seed: u64) -> Blob {
    let mut state = seed;
    let data: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(600_000)
    .collect();
    let mut tar = TarFile::new();
    tar.entry(b'0', "data", "", 0o644, &data);
    let tar = tar.finish();
    let bytes = gzip(&tar);
    Blob { digest: Digest::of(&bytes), diff_id: Digest::of(&tar), bytes }
}

impl Blob {
    fn wanted(&self, session: &Session) -> Incoming {
        match session.fetch((self.digest, self.bytes.len() as u64), self.diff_id).expect("fetch") {
            Fetch::Wanted(incoming) => incoming,
            Fetch::Here(_) => panic!("the layer is here"),
        }
    }

    fn here(&self, session: &Session) -> Option<Layer> {
        match session.fetch((self.digest, self.bytes.len() as u64), self.diff_id).expect("fetch") {
            Fetch::Wanted(_) => None,
            Fetch::Here(layer) => Some(layer),
        }
    }
}

/// Some bytes, then a connection that breaks, or is closed as if that were all.
struct Cut<'b>(&'b [u8], bool);

impl Read for Cut<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if self.1 => Err(io::ErrorKind::ConnectionReset.into()),
            read => Ok(read),
        }
    }
}

#[test]
fn what_has_come_survives_and_the_rest_completes_it() {
    let (_dir, store) = store();
    let blob = blob(1);
    let mut have = 0;
    for (part, broken) in [(100_000, true), (0, true), (250_000, false)] {
        // Each time as another process.
        let session = Session::begin(&store.layout, Limits::default()).expect("begin");
        let incoming = blob.wanted(&session);
        assert_eq!(incoming.have(), have);
        let at = usize::try_from(have).expect("small");
        let error =
            session.complete(incoming, Cut(&blob.bytes[at..at + part], broken)).expect_err("it was cut off");
        assert!(matches!(error, Error::Archive { .. }), "{error:?}");
        have += part as u64;
        drop(session);
        assert_eq!(entries(&store, "blobs/sha256") + entries(&store, "layers") + entries(&store, "tmp"), 0);
    }
    let session = Session::begin(&store.layout, Limits::default()).expect("begin");
    let incoming = blob.wanted(&session);
    let at = usize::try_from(incoming.have()).expect("small");
    assert_eq!(at, 350_000);
    let layer = session.complete(incoming, &blob.bytes[at..]).expect("complete");
    assert_eq!((layer.blob, layer.diff_id), (blob.digest, blob.diff_id));
    assert_eq!(blob.here(&session), Some(layer));
    assert_eq!(fs::read(store.layout.blob(&blob.digest)).expect("read"), blob.bytes);
    assert_eq!(
        fs::metadata(store.layout.layer(&blob.diff_id).join("diff/data")).expect("stat").len(),
        600_000
    );
    // It is the store's, whatever becomes of this session.
    drop(session);
    let session = Session::begin(&store.layout, Limits::default()).expect("begin");
    assert_eq!(blob.here(&session), Some(layer));
    assert_eq!(entries(&store, "incoming"), 0);
}

#[test]
fn content_that_is_not_what_it_should_be_is_thrown_away() {
    let (_dir, store) = store();
    let blob = blob(2);
    let session = Session::begin(&store.layout, Limits::default()).expect("begin");
    let mut flipped = blob.bytes.clone();
    flipped[300_000] ^= 1;
    let longer = [&blob.bytes[..], b"x"].concat();
    for bytes in [&flipped, &longer] {
        let error = session.complete(blob.wanted(&session), &bytes[..]).expect_err("wrong content");
        assert!(
            matches!(
                error,
                Error::DigestMismatch { .. } | Error::SizeMismatch { .. } | Error::Archive { .. }
            ),
            "{error:?}"
        );
        assert_eq!(blob.wanted(&session).have(), 0, "nothing of it is kept");
    }
    // A beginning that was damaged on the disk is found at the end, and the next time begins anew.
    let error = session.complete(blob.wanted(&session), Cut(&flipped[..400_000], true)).expect_err("cut");
    assert!(matches!(error, Error::Archive { .. }), "{error:?}");
    let incoming = blob.wanted(&session);
    assert_eq!(incoming.have(), 400_000);
    session.complete(incoming, &blob.bytes[400_000..]).expect_err("the beginning is damaged");
    let incoming = blob.wanted(&session);
    assert_eq!(incoming.have(), 0);
    session.complete(incoming, &blob.bytes[..]).expect("complete");
}

#[test]
fn of_many_that_want_a_blob_one_fetches_it() {
    let (_dir, store) = store();
    let blobs = [blob(4), blob(5), blob(6)];
    let fetched = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..12 {
            let (store, blobs, fetched) = (&store, &blobs, &fetched);
            scope.spawn(move || {
                let session = Session::begin(&store.layout, Limits::default()).expect("begin");
                for step in 0..3 {
                    let blob = &blobs[(number + step) % 3];
                    let size = blob.bytes.len() as u64;
                    if let Fetch::Wanted(incoming) =
                        session.fetch((blob.digest, size), blob.diff_id).expect("fetch")
                    {
                        fetched.fetch_add(1, Ordering::Relaxed);
                        session.complete(incoming, &blob.bytes[..]).expect("complete");
                    }
                }
            });
        }
    });
    assert_eq!(fetched.into_inner(), 3);
    assert_eq!((entries(&store, "blobs/sha256"), entries(&store, "layers")), (3, 3));
}

#[test]
fn a_lost_layer_is_unpacked_again_without_the_network() {
    let (_dir, store) = store();
    let blob = blob(7);
    let session = Session::begin(&store.layout, Limits::default()).expect("begin");
    session.complete(blob.wanted(&session), &blob.bytes[..]).expect("complete");
    drop(session);
    fs::remove_dir_all(store.layout.layer(&blob.diff_id)).expect("remove");
    let session = Session::begin(&store.layout, Limits::default()).expect("begin");
    let incoming = blob.wanted(&session);
    assert_eq!(incoming.have(), blob.bytes.len() as u64);
    session.complete(incoming, io::empty()).expect("complete");
    assert!(store.layout.layer(&blob.diff_id).join("diff/data").exists());
}
