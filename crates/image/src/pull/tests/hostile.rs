//! Registries that lie, that want to be followed where they should not, and that never end.

use std::time::Instant;

use super::*;

/// Answers manifests with this text.
fn with_manifest(image: &TestImage, manifest: String, media_type: &'static str) -> Server {
    let right = registry(image);
    Server::start(move |seen| {
        if seen.target.contains("/manifests/") {
            Answer::new(200, manifest.clone()).header("content-type", media_type)
        } else {
            right(seen)
        }
    })
}

fn manifest(image: &TestImage) -> serde_json::Value {
    serde_json::from_slice(&image.manifest()).expect("JSON")
}

#[test]
fn foreign_urls_are_never_followed() {
    let image = image();
    let evil = Server::start(registry(&image));
    let mut manifest = manifest(&image);
    for layer in manifest["layers"].as_array_mut().expect("layers") {
        layer["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
        let path = format!("/v2/team/app/blobs/{}", layer["digest"].as_str().expect("a digest"));
        layer["urls"] = serde_json::json!([format!("http://{}{path}", evil.name())]);
    }
    let (right, text) = (registry(&image), manifest.to_string());
    let server = Server::start(move |seen| {
        if seen.target.contains("/manifests/") {
            Answer::new(200, text.clone()).header("content-type", crate::manifest::OCI_MANIFEST)
        } else if seen.target.contains(&Digest::of(&[]).to_string()) {
            Answer::new(404, "")
        } else {
            right(seen)
        }
    });
    // The registry has the layers, whatever the manifest says of other places: the control.
    Bench::new().pull(&server).expect("pulled");
    let only_config = registry(&TestImage { layers: Vec::new(), ..image_of(&image) });
    let text = manifest.to_string();
    let server = Server::start(move |seen| {
        if seen.target.contains("/manifests/") {
            Answer::new(200, text.clone()).header("content-type", crate::manifest::OCI_MANIFEST)
        } else {
            only_config(seen)
        }
    });
    let error = Bench::new().pull(&server).expect_err("the registry has no layers");
    assert!(cause(&error).is_not_found(), "{error:?}");
    assert_eq!(evil.seen(), []);
}

fn image_of(image: &TestImage) -> TestImage {
    TestImage { config: image.config.clone(), layers: image.layers.clone() }
}

#[test]
fn redirects_lead_to_no_other_scheme_and_not_on_for_ever() {
    let image = image();
    for (location, reason) in [
        ("file:///etc/passwd", "is neither http nor https"),
        ("gopher://127.0.0.1/", "is neither http nor https"),
        ("ftp://127.0.0.1/", "is neither http nor https"),
        ("http://me:pass@127.0.0.1/", "has a user name in it"),
        ("http:///x", ""),
        ("http://169.254.169.254/latest/meta-data/", "refuse to follow"),
        ("http://[fd00:ec2::254]/", "refuse to follow"),
        ("http://0.0.0.0:1/", "refuse to follow"),
        ("http://2852039166/", "refuse to follow"),
    ] {
        let right = registry(&image);
        let server = Server::start(move |seen| {
            if seen.target.contains("/blobs/") {
                Answer::new(302, "").header("location", location)
            } else {
                right(seen)
            }
        });
        let error = Bench::new().pull(&server).expect_err(location);
        assert!(cause(&error).to_string().contains(reason), "{location}: {error:?}");
    }
    let right = registry(&image);
    let server = Server::start(move |seen| {
        if seen.target.contains("/blobs/") {
            Answer::new(302, "").header("location", format!("{}x", seen.target))
        } else {
            right(seen)
        }
    });
    let error = Bench::new().pull(&server).expect_err("redirects without end");
    assert!(matches!(cause(&error), RegistryError::Redirects { .. }), "{error:?}");
    assert_eq!(server.lines().len(), 1 + 6);
}

/// Does something to a blob.
type Spoil = fn(&mut Vec<u8>);

#[test]
fn content_that_is_not_what_it_should_be_is_never_an_image() {
    let image = image();
    let digests: Vec<String> = [Digest::of(&image.config)]
        .into_iter()
        .chain(image.layers.iter().map(|(bytes, _)| Digest::of(bytes)))
        .map(|digest| digest.to_string())
        .collect();
    let spoils: [(&str, Spoil); 4] = [
        ("flip", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }),
        ("truncate", |bytes| bytes.truncate(bytes.len() - 1)),
        ("append", |bytes| bytes.push(0)),
        ("empty", Vec::clear),
    ];
    for target in digests {
        for (name, spoil) in spoils {
            let (right, about) = (registry(&image), target.clone());
            let blobs: Vec<Vec<u8>> =
                image.layers.iter().map(|(bytes, _)| bytes.clone()).chain([image.config.clone()]).collect();
            let server = Server::start(move |seen| {
                if !seen.target.contains(&about) {
                    return right(seen);
                }
                let mut blob =
                    blobs.iter().find(|blob| Digest::of(blob).to_string() == about).expect("ours").clone();
                spoil(&mut blob);
                let at = seen.offset().unwrap_or(0).min(blob.len());
                let size = blob.len();
                match seen.offset() {
                    None => Answer::new(200, blob),
                    Some(_) => Answer::new(206, &blob[at..])
                        .header("content-range", format!("bytes {at}-{}/{size}", size.saturating_sub(1))),
                }
            });
            let bench = Bench::new();
            let begun = Instant::now();
            let error = bench.pull(&server).expect_err(name);
            assert!(begun.elapsed() < Duration::from_secs(30), "{name} {target}");
            let text = crate::error::chain(&error);
            assert!(text.contains(&target) || text.contains("bytes"), "{name} {target}: {text}");
            // What was wrong is not kept, so that it cannot be wrong again. Of one that was cut off nothing is wrong yet.
            let kept = bench.partial_of(&target);
            assert!(kept == 0 || name == "truncate", "{name} {target}: {text}");
        }
    }
}

#[test]
fn a_range_that_is_spoilt_is_found_too() {
    let (bench, image) = (Bench::new(), image());
    let (right, about) = (registry(&image), large(&image));
    let blob = image.layers[0].0.clone();
    let server = Server::start(move |seen| match (seen.target.contains(&about), seen.offset()) {
        (true, None) => right(seen).cut(500_000),
        (true, Some(at)) => {
            let mut blob = blob.clone();
            let last = blob.len() - 2000;
            blob[last] ^= 1;
            Answer::new(206, &blob[at..])
                .header("content-range", format!("bytes {at}-{}/{}", blob.len() - 1, blob.len()))
        }
        _ => right(seen),
    });
    let error = bench.pull(&server).expect_err("spoilt");
    assert!(matches!(error, PullError::Image(Error::DigestMismatch { .. })), "{error:?}");
    assert_eq!(bench.partial(), 0);
}

#[test]
fn documents_that_contradict_themselves_are_refused() {
    let image = image();
    let both = {
        let mut both = manifest(&image);
        both["manifests"] = serde_json::json!([]);
        both.to_string()
    };
    let plain = manifest(&image).to_string();
    for (name, text, media_type) in [
        ("both", both, crate::manifest::OCI_MANIFEST),
        ("a manifest as an index", plain.clone(), crate::manifest::OCI_INDEX),
        ("html", "<html>".to_owned(), "text/html"),
        ("schema 1", plain.clone(), "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ("not JSON", "{".to_owned(), crate::manifest::OCI_MANIFEST),
        ("deep", "[".repeat(100_000), crate::manifest::OCI_MANIFEST),
    ] {
        let server = with_manifest(&image, text, media_type);
        let error = Bench::new().pull(&server).expect_err(name);
        assert!(matches!(error, PullError::Image(_)), "{name}: {error:?}");
        assert_eq!(server.lines().len(), 1, "{name}: nothing else is asked for");
    }
    // The control: a server that says nothing of the type, or nothing of use.
    for media_type in ["application/json; charset=utf-8", "application/octet-stream"] {
        Bench::new().pull(&with_manifest(&image, plain.clone(), media_type)).expect(media_type);
    }
}

#[test]
fn digests_that_are_none_are_refused_before_anything_is_asked_or_made() {
    let image = image();
    let right = Digest::of(&image.layers[0].0).to_string();
    let hex = &right["sha256:".len()..];
    for bad in [
        "sha256:../../x".to_owned(),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{}", &hex[1..]),
        format!("sha512:{hex}"),
        format!("md5:{}", &hex[..32]),
        String::new(),
        "sha256:%2e%2e%2f".to_owned(),
        format!("sha256:{}", "a".repeat(1 << 20)),
    ] {
        let mut wrong = manifest(&image);
        wrong["layers"][0]["digest"] = bad.clone().into();
        let server = with_manifest(&image, wrong.to_string(), crate::manifest::OCI_MANIFEST);
        let error = Bench::new().pull(&server).expect_err("a bad digest");
        assert!(matches!(error, PullError::Image(_)), "{bad:.80}: {error:?}");
        assert_eq!(server.lines().len(), 1, "{bad:.80}");

        let stated = bad.clone();
        let right = registry(&image);
        let server = Server::start(move |seen| {
            if seen.target.contains("/manifests/") {
                Answer::new(200, "{}").header("docker-content-digest", stated.clone())
            } else {
                right(seen)
            }
        });
        if bad.len() < 1000 && !bad.is_empty() {
            let error = Bench::new().pull(&server).expect_err("a bad digest in a header");
            assert!(matches!(cause(&error), RegistryError::Digest { .. }), "{bad}: {error:?}");
        }
    }
}

#[test]
fn a_manifest_is_what_its_digest_says() {
    let image = image();
    let other = {
        let mut other = manifest(&image);
        other["annotations"] = serde_json::json!({"x": "y"});
        other.to_string()
    };
    let right = Digest::of(&image.manifest());
    // The server states the digest of another one, or serves another one by digest.
    let text = other.clone();
    let server = Server::start(move |_| {
        Answer::new(200, text.clone()).header("docker-content-digest", right.to_string())
    });
    let error = Bench::new().pull(&server).expect_err("another manifest");
    assert!(matches!(cause(&error), RegistryError::Answer { .. }), "{error:?}");
    let server = with_manifest(&image, other, crate::manifest::OCI_MANIFEST);
    let error = Bench::new().pull_named(&server, &format!("team/app@{right}")).expect_err("another manifest");
    assert!(matches!(cause(&error), RegistryError::Answer { .. }), "{error:?}");
}

#[test]
fn answers_without_end_end() {
    let image = image();
    let config = Digest::of(&image.config).to_string();
    let endless = |about: String, answer: Answer| {
        let right = registry(&image);
        Server::start(move |seen| if seen.target.contains(&about) { answer.clone() } else { right(seen) })
    };
    let filler = vec![b' '; 64 << 10];
    for (name, about, answer) in [
        ("manifest", "/manifests/".to_owned(), Answer::new(200, filler.clone()).endless()),
        ("config", config.clone(), Answer::new(200, filler.clone()).endless()),
        ("layer", large(&image), Answer::new(200, filler.clone()).endless()),
        ("error", "/manifests/".to_owned(), Answer::new(400, filler.clone()).endless()),
        ("challenge", "/manifests/".to_owned(), Answer::new(401, filler.clone()).endless()),
        ("headers", "/manifests/".to_owned(), Answer::endless_headers()),
        ("silence", "/manifests/".to_owned(), Answer::silent()),
        ("announced", config.clone(), Answer::new(200, "x").announce(1 << 40)),
        ("announced layer", large(&image), Answer::new(200, "x").announce(1 << 40)),
    ] {
        let server = endless(about, answer);
        let begun = Instant::now();
        let error = Bench::with_little_patience().pull(&server).expect_err(name);
        assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", begun.elapsed());
        assert!(crate::error::chain(&error).len() < 2000, "{name}: {error:?}");
    }
    // A token without end.
    let tokens = Server::start(move |_| Answer::new(200, filler.clone()).endless());
    let realm = format!("Bearer realm=\"http://{}/\"", tokens.name());
    let server = Server::start(move |_| Answer::new(401, "").header("www-authenticate", realm.clone()));
    let error = Bench::with_little_patience().pull(&server).expect_err("a token without end");
    assert!(matches!(cause(&error), RegistryError::TooLarge { .. }), "{error:?}");
}

#[test]
fn an_image_may_not_need_more_than_it_is_allowed() {
    let image = image();
    let server = Server::start(registry(&image));
    let mut bench = Bench::new();
    bench.options.limits = bench.options.limits.with_unpacked_bytes(500_000);
    let error = bench.pull(&server).expect_err("too large");
    assert!(matches!(error, PullError::Image(Error::Limit { .. })), "{error:?}");
    assert!(bench.partial() < 1000, "at most the other layer is kept");
    // Ten megabytes of zeros in a few kilobytes.
    let mut tar = TarFile::new();
    tar.entry(b'0', "zeros", "", 0o644, &vec![0; 10_000_000]);
    let tar = tar.finish();
    let mut bomb = TestImage::new(std::slice::from_ref(&tar));
    bomb.layers[0].0 = crate::testing::gzip(&tar);
    assert!(bomb.layers[0].0.len() < 100_000);
    let server = Server::start(registry(&bomb));
    let error = bench.pull(&server).expect_err("a bomb");
    assert!(matches!(error, PullError::Image(Error::Limit { .. })), "{error:?}");
    bench.options.limits = crate::Limits::default();
    bench.pull(&server).expect("the control");
}

#[test]
fn a_local_name_is_never_looked_for_elsewhere() {
    let bench = Bench::new();
    let client = Client::new(Registries::default());
    let error = bench.pull_with(&client, "localhost/app:1").expect_err("local");
    assert!(matches!(error, PullError::LocalOnly(_)), "{error:?}");
}
