//! What is transferred, in which order, and what of it twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

#[test]
fn everything_is_asked_for_once_and_nothing_when_it_is_the_same() {
    let (bench, image) = (Bench::new(), image());
    let server = Server::start(registry(&image));
    let pulled = bench.pull(&server).expect("pulled");
    assert!(!pulled.unchanged);
    assert_eq!(pulled.digest, Digest::of(&image.manifest()));
    let lines = server.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[0], "GET /v2/team/app/manifests/1");
    assert_eq!(lines[1], format!("GET /v2/team/app/blobs/{}", Digest::of(&image.config)));
    let top = pulled.image.layers.last().expect("a layer");
    assert_eq!(fs::read_to_string(top.join("name")).expect("unpacked"), "second");
    assert_eq!(bench.partial(), 0);

    let told = bench.told();
    assert!(matches!(told[0], Progress::Resolved { .. }), "{told:?}");
    assert!(matches!(&told[1], Progress::Layers { layers } if layers.len() == 2), "{told:?}");
    assert_eq!(told.iter().filter(|step| matches!(step, Progress::Done { .. })).count(), 2);
    assert_eq!(told.last(), Some(&Progress::Committing));

    let again = bench.pull(&server).expect("pulled");
    assert!(again.unchanged);
    assert_eq!((again.digest, again.image.id), (pulled.digest, pulled.image.id));
    assert_eq!(server.lines(), ["HEAD /v2/team/app/manifests/1"]);
    assert_eq!(bench.told().len(), 1);
    // By its digest, also where a tag beside it means something else.
    for name in [format!("team/app@{}", pulled.digest), format!("team/app:other@{}", pulled.digest)] {
        assert!(bench.pull_named(&server, &name).expect("pulled").unchanged, "{name}");
        assert_eq!(server.lines(), [format!("HEAD /v2/team/app/manifests/{}", pulled.digest)]);
    }
}

#[test]
fn a_registry_that_states_no_digest_is_asked_for_the_manifest_alone() {
    let (bench, image) = (Bench::new(), image());
    let right = registry(&image);
    let manifest = image.manifest();
    let server = Server::start(move |seen| {
        if seen.target.contains("/manifests/") {
            Answer::new(200, manifest.clone()).header("content-type", "application/json")
        } else {
            right(seen)
        }
    });
    bench.pull(&server).expect("pulled");
    server.seen();
    assert!(bench.pull(&server).expect("pulled").unchanged);
    assert_eq!(server.lines(), ["HEAD /v2/team/app/manifests/1", "GET /v2/team/app/manifests/1"]);
}

#[test]
fn a_transfer_goes_on_where_it_was_cut() {
    let (bench, image) = (Bench::new(), image());
    let (right, large, cuts) = (registry(&image), large(&image), AtomicUsize::new(0));
    let about = large.clone();
    let server = Server::start(move |seen| {
        if seen.target.contains(&about) && cuts.fetch_add(1, Ordering::Relaxed) < 3 {
            right(seen).cut(200_000)
        } else {
            right(seen)
        }
    });
    bench.pull(&server).expect("pulled");
    let asked: Vec<_> =
        server.seen().iter().filter(|seen| seen.target.contains(&large)).map(Seen::offset).collect();
    assert_eq!(asked, [None, Some(200_000), Some(400_000), Some(600_000)]);
    let retries = bench.told().iter().filter(|step| matches!(step, Progress::Retrying { .. })).count();
    assert_eq!(retries, 3);
}

#[test]
fn what_has_come_serves_the_next_pull() {
    let (bench, image) = (Bench::new(), image());
    let large = large(&image);
    let (right, about) = (registry(&image), large.clone());
    // Every attempt brings the same beginning and no more.
    let server = Server::start(move |seen| match seen.target.contains(&about) {
        true if seen.offset().is_none() => right(seen).cut(300_000),
        true => Answer::new(404, ""),
        false => right(seen),
    });
    let error = bench.pull(&server).expect_err("cut off");
    assert!(matches!(&error, PullError::Fetch { digest, .. } if digest.to_string() == large), "{error:?}");
    assert_eq!(bench.partial_of(&large), 300_000);
    let server = Server::start(registry(&image));
    bench.pull(&server).expect("pulled");
    let asked: Vec<_> =
        server.seen().iter().filter(|seen| seen.target.contains(&large)).map(Seen::offset).collect();
    assert_eq!(asked, [Some(300_000)]);
    assert_eq!(bench.partial(), 0);
}

#[test]
fn a_damaged_beginning_costs_one_more_transfer_and_no_more() {
    let (bench, image) = (Bench::new(), image());
    let large = large(&image);
    let (right, about) = (registry(&image), large.clone());
    let server = Server::start(move |seen| match seen.target.contains(&about) {
        true if seen.offset().is_none() => right(seen).cut(300_000),
        true => Answer::new(404, ""),
        false => right(seen),
    });
    let error = bench.pull(&server).expect_err("cut off");
    assert!(matches!(&error, PullError::Fetch { digest, .. } if digest.to_string() == large), "{error:?}");
    let hex = large.strip_prefix("sha256:").expect("a digest");
    let partial = bench.store.path().join("incoming").join(hex);
    let mut bytes = fs::read(&partial).expect("read");
    bytes[100_000] ^= 1;
    fs::write(&partial, bytes).expect("write");
    let server = Server::start(registry(&image));
    bench.pull(&server).expect("pulled");
    let asked: Vec<_> =
        server.seen().iter().filter(|seen| seen.target.contains(&large)).map(Seen::offset).collect();
    assert_eq!(asked, [Some(300_000), None]);
}

/// Answers with a blob from an offset on.
type Manner = fn(Vec<u8>, usize) -> Answer;

#[test]
fn servers_that_answer_ranges_in_their_own_way_serve_nevertheless() {
    let image = image();
    let blob = image.layers[0].0.clone();
    let size = blob.len();
    let manners: [(&str, Manner); 5] = [
        ("all of it", |blob, _| Answer::new(200, blob)),
        ("another part", |blob, at| {
            let range = format!("bytes {}-{}/{}", at - 1000, blob.len() - 1, blob.len());
            Answer::new(206, &blob[at - 1000..]).header("content-range", range)
        }),
        ("no range", |blob, at| Answer::new(206, &blob[at..])),
        ("another size", |blob, at| {
            Answer::new(206, &blob[at..]).header("content-range", format!("bytes {at}-{}/9", blob.len() - 1))
        }),
        ("unsatisfiable", |_, _| Answer::new(416, "")),
    ];
    for (manner, partial) in manners {
        let bench = Bench::new();
        let (right, about, blob) = (registry(&image), large(&image), blob.clone());
        let cut = AtomicUsize::new(0);
        let server = Server::start(move |seen| match (seen.target.contains(&about), seen.offset()) {
            (true, Some(offset)) => partial(blob.clone(), offset),
            (true, None) if cut.fetch_add(1, Ordering::Relaxed) == 0 => right(seen).cut(size / 2),
            _ => right(seen),
        });
        bench.pull(&server).unwrap_or_else(|error| panic!("{manner}: {error:?}"));
    }
}

#[test]
fn a_server_that_falls_silent_is_left_and_asked_again() {
    let (bench, image) = (Bench::with_little_patience(), image());
    let (right, large, tries) = (registry(&image), large(&image), AtomicUsize::new(0));
    let about = large.clone();
    let server = Server::start(move |seen| {
        if seen.target.contains(&about) {
            match tries.fetch_add(1, Ordering::Relaxed) {
                0 => right(seen).stall(100_000),
                1 => Answer::silent(),
                _ => right(seen),
            }
        } else {
            right(seen)
        }
    });
    let begun = Instant::now();
    bench.pull(&server).expect("pulled");
    assert!(begun.elapsed() >= LITTLE * 2, "{:?}", begun.elapsed());
    let asked: Vec<_> =
        server.seen().iter().filter(|seen| seen.target.contains(&large)).map(Seen::offset).collect();
    assert_eq!(asked, [None, Some(100_000), Some(100_000)]);
}

#[test]
fn a_server_that_never_sends_more_is_given_up() {
    let (bench, image) = (Bench::with_little_patience(), image());
    let (right, about) = (registry(&image), large(&image));
    let server = Server::start(move |seen| {
        if seen.target.contains(&about) { right(seen).slow(Duration::from_millis(1)) } else { right(seen) }
    });
    let error = bench.pull(&server).expect_err("a byte at a time");
    assert!(matches!(cause(&error), RegistryError::Stalled { .. }), "{error:?}");
    // What came is kept, little as it is.
    assert!(bench.partial() > 0);
}

#[test]
fn a_busy_registry_is_asked_again_when_it_says() {
    let (bench, image) = (Bench::new(), image());
    let (right, about, tries) = (registry(&image), large(&image), AtomicUsize::new(0));
    let server = Server::start(move |seen| {
        if seen.target.contains(&about) {
            match tries.fetch_add(1, Ordering::Relaxed) {
                0 => Answer::new(429, "slow down").header("retry-after", "1"),
                1 => Answer::new(503, ""),
                _ => right(seen),
            }
        } else {
            right(seen)
        }
    });
    let begun = Instant::now();
    bench.pull(&server).expect("pulled");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());

    let server = Server::start(|_| Answer::new(503, r#"{"errors":[{"message":"down for maintenance"}]}"#));
    let error = bench.pull(&server).expect_err("unavailable");
    assert!(error.registry().is_some_and(RegistryError::is_unavailable), "{error:?}");
    assert!(
        cause(&error).to_string().ends_with("503 Service Unavailable: down for maintenance"),
        "{error:?}"
    );
}

#[test]
fn many_that_want_an_image_fetch_each_part_of_it_once() {
    let (bench, image) = (Bench::new(), image());
    let (right, large) = (registry(&image), large(&image));
    let about = large.clone();
    let server = Server::start(move |seen| {
        if seen.target.contains(&about) {
            // Slow enough that the others come while it is on its way.
            super::server::pause(Duration::from_millis(150));
        }
        right(seen)
    });
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let client = Client::with_patience(plain(&[&server]), Duration::from_secs(20));
                // As another process: with a store of its own in the same directory.
                let store = Store::open(bench.store.path()).expect("open");
                let reference = format!("{}/team/app:1", server.name()).parse().expect("valid");
                store.pull_blocking(&client, &reference, &bench.options).expect("pulled");
            });
        }
    });
    let fetched = server.seen().iter().filter(|seen| seen.target.contains(&large)).count();
    assert_eq!(fetched, 1);
}

#[test]
fn mirrors_are_asked_first_and_passed_over_when_they_fail() {
    let image = image();
    let origin = Server::start(registry(&image));
    let hub = registry(&image);
    let mirror = Server::start(move |seen: &Seen| {
        hub(&seen.retargeted(&seen.target.replace("/v2/hub/team/", "/v2/team/")))
    });
    let empty = Server::start(|_| Answer::new(404, ""));
    let client = |mirrors: &[&Server]| {
        let list: Vec<_> =
            mirrors.iter().map(|mirror| format!("{:?}", format!("{}/hub", mirror.name()))).collect();
        let plain = |server: &&Server| format!("[registry.{:?}]\nplain-http = true\n", server.name());
        let text = format!(
            "{}{}mirrors = [{}]\n",
            mirrors.iter().map(plain).collect::<String>(),
            plain(&&origin),
            list.join(", ")
        );
        Client::with_patience(Registries::from_toml(&text).expect("valid"), PATIENCE)
    };
    let name = format!("{}/team/app:1", origin.name());
    let bench = Bench::new();
    bench.pull_with(&client(&[&mirror]), &name).expect("pulled");
    assert_eq!((origin.lines().len(), mirror.lines().len()), (0, 4));
    let bench = Bench::new();
    bench.pull_with(&client(&[&empty, &mirror]), &name).expect("pulled");
    assert_eq!((origin.lines().len(), empty.lines().len(), mirror.lines().len()), (0, 1, 4));
    let bench = Bench::new();
    bench.pull_with(&client(&[&empty]), &name).expect("pulled");
    assert_eq!((origin.lines().len(), empty.lines().len()), (4, 1));
    // One that has the manifest and not the layers.
    let manifests = registry(&image);
    let half = Server::start(move |seen: &Seen| {
        if seen.target.contains("/blobs/") {
            Answer::new(404, "")
        } else {
            manifests(&seen.retargeted(&seen.target.replace("/v2/hub/", "/v2/")))
        }
    });
    let bench = Bench::new();
    bench.pull_with(&client(&[&half]), &name).expect("pulled");
    assert_eq!((origin.lines().len(), half.lines().len()), (3, 4));
}

#[test]
fn of_an_index_the_image_of_the_platform_is_pulled() {
    let layers = |text: &str| {
        let mut tar = TarFile::new();
        tar.file("name", text);
        vec![tar.finish()]
    };
    let here = TestImage::for_platform(&layers("here"), &crate::Platform::host().architecture);
    let other = TestImage::for_platform(&layers("other"), "s390x");
    let descriptor = |image: &TestImage, architecture: &str| {
        serde_json::json!({"mediaType": crate::manifest::OCI_MANIFEST, "digest": Digest::of(&image.manifest()),
            "size": image.manifest().len(), "platform": {"os": "linux", "architecture": architecture}})
    };
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": crate::manifest::OCI_INDEX, "manifests": [
        descriptor(&other, "s390x"), descriptor(&here, &crate::Platform::host().architecture)]})
        .to_string();
    let (first, second, about) = (registry(&here), registry(&other), index.clone());
    let server = Server::start(move |seen| match seen.target.ends_with("/manifests/1") {
        true => Answer::new(200, about.clone()).header("content-type", crate::manifest::OCI_INDEX),
        false if first(seen).is(404) => second(seen),
        false => first(seen),
    });
    let mut bench = Bench::new();
    let pulled = bench.pull(&server).expect("pulled");
    // The name means the index; an image is known by it.
    assert_eq!(pulled.digest, Digest::of(index.as_bytes()));
    assert_eq!(pulled.image.manifest, Digest::of(&here.manifest()));
    let reference: Reference = format!("{}/team/app:1", server.name()).parse().expect("valid");
    assert_eq!(
        pulled.image.image_id(&reference),
        format!("{}@{}", reference.repository(), Digest::of(index.as_bytes()))
    );
    let by_digest = format!("{}@{}", reference.repository(), pulled.digest).parse().expect("valid");
    assert!(bench.store.resolve(&by_digest).expect("readable").is_some());
    assert!(bench.pull(&server).expect("pulled").unchanged);

    bench = Bench::new();
    bench.options.platform.architecture = "riscv64".to_owned();
    let error = bench.pull(&server).expect_err("no such platform");
    assert!(matches!(error, PullError::Image(Error::Platform { .. })), "{error:?}");
}
