//! Whatever an image has, and however many of its layers come at a time, a pull keeps within 64 MiB of memory.
//!
//! What is looked at is the process's own memory, `RssAnon`: the pages of its program are the machine's, and those of a
//! debug build are many times those of a release. A fifth of the 64 MiB is left for them.

mod common;

use std::fs;
use std::time::Duration;

use common::{Podrun, processes};
use podrun_testkit::{Registry, TempRoot, require};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// The most, in KiB.
const MOST: u64 = 52 << 10;
/// Bytes of the file of a layer: larger than any window.
const FILE: usize = 40 << 20;
/// Bytes of a block, the most that a frame may have.
const BLOCK: usize = 128 << 10;

/// A layer with one file, written by hand: what it is to the decoder does not depend on an encoder.
struct Layer {
    blob: Vec<u8>,
    diff_id: String,
}

/// What is in a layer's file.
#[derive(Clone, Copy)]
enum Content {
    /// Zeros, which are a few bytes in the registry.
    Zeros,
    /// Bytes as they are, so that buffers on the way are full as well.
    Noise,
}

impl Layer {
    /// Returns a layer whose frame wants a window of 2 to the power of `window_log` bytes (RFC 8878, section 3.1.1).
    fn new(name: &str, window_log: u8, content: Content) -> Self {
        let mut header = Header::new_ustar();
        header.set_path(name).expect("a short name");
        header.set_size(FILE as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let mut digest = Sha256::new();
        let mut blob = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3];
        let mut block = |content: &[u8], last: bool| {
            digest.update(content);
            let repeats = content.iter().all(|byte| *byte == 0);
            let size = u32::try_from(content.len()).expect("small");
            let head = size << 3 | u32::from(repeats) << 1 | u32::from(last);
            blob.extend_from_slice(&head.to_le_bytes()[..3]);
            blob.extend_from_slice(if repeats { &[0] } else { content });
        };
        block(header.as_bytes(), false);
        let mut state = u64::from(name.as_bytes()[0]);
        let mut bytes = vec![0; BLOCK];
        for _ in 0..FILE / BLOCK {
            if matches!(content, Content::Noise) {
                for word in bytes.chunks_exact_mut(8) {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    word.copy_from_slice(&state.to_le_bytes());
                }
            }
            block(&bytes, false);
        }
        // The two empty blocks at the end of an archive.
        block(&[0; 1024], true);
        let diff_id = hex(&digest.finalize());
        Self { blob, diff_id }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

impl From<Builder<Vec<u8>>> for Layer {
    fn from(archive: Builder<Vec<u8>>) -> Self {
        let tar = archive.into_inner().expect("memory");
        let diff_id = hex(&Sha256::digest(&tar));
        Self { blob: zstd::encode_all(&tar[..], 1).expect("memory"), diff_id }
    }
}

/// Puts an image into the registry.
fn push(registry: &Registry, tag: &str, layers: &[Layer], environment: &[String]) -> String {
    let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
    let config = json!({ "architecture": podrun_image::Platform::host().architecture, "os": "linux",
        "config": { "Cmd": ["x"], "Env": environment }, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let blobs: Vec<_> = layers.iter().map(|layer| (ZSTD, layer.blob.as_slice())).collect();
    registry.push("team/app", tag, config.to_string().as_bytes(), &blobs);
    format!("{}/team/app:{tag}", registry.name())
}

/// Appends an entry with any path, as pax has it.
fn append(archive: &mut Builder<Vec<u8>>, kind: EntryType, path: &str) {
    archive.append_pax_extensions([("path", path.as_bytes())]).expect("memory");
    let mut header = Header::new_ustar();
    header.set_path("x").expect("a short name");
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(0);
    header.set_cksum();
    archive.append(&header, &[][..]).expect("memory");
}

fn long(letter: char) -> String {
    letter.to_string().repeat(250)
}

/// A layer that lists many directories with the longest of paths.
fn listed(letter: char, count: usize) -> Layer {
    let mut archive = Builder::new(Vec::new());
    let above = vec![long(letter); 15].join("/");
    (0..count).for_each(|number| append(&mut archive, EntryType::Directory, &format!("{above}/{number}")));
    archive.into()
}

/// A layer that has one file in each of many directories which it does not list.
fn unlisted(letter: char, count: usize) -> Layer {
    let mut archive = Builder::new(Vec::new());
    let above = vec![long(letter); 4].join("/");
    (0..count).for_each(|number| append(&mut archive, EntryType::Regular, &format!("{above}/{number}/x")));
    archive.into()
}

/// A layer of files with as many and as large attributes as a header can have, which are dropped.
fn attributes(letter: char) -> Layer {
    let mut archive = Builder::new(Vec::new());
    let value = vec![b'v'; 60_000];
    for number in 0..50 {
        let names: Vec<_> = (0..16).map(|n| format!("SCHILY.xattr.trusted.{n}")).collect();
        let pairs = names.iter().map(|name| (name.as_str(), value.as_slice()));
        archive.append_pax_extensions(pairs).expect("memory");
        append(&mut archive, EntryType::Regular, &format!("{letter}{number}"));
    }
    archive.into()
}

/// Pulls an image and returns the most memory that it took, in KiB.
fn peak_of_pull(podrun: &Podrun, image: &str) -> u64 {
    let running = podrun.spawn(&["image", "pull", "--progress=none", image]);
    let pid = running.pid();
    let now = || -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        // One that has ended has no memory.
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    let mut most = 0;
    while let Some(now) = now() {
        most = most.max(now);
        processes::let_pass(Duration::from_millis(1));
    }
    running.finish().ok();
    most
}

/// Runs `test` with a registry from which podrun pulls.
fn with_registry(test: impl FnOnce(&Registry, &Podrun)) {
    let dir = TempRoot::new();
    let registry = Registry::start(dir.path());
    let podrun = Podrun::empty();
    let etc = podrun.state().join("etc");
    fs::create_dir_all(&etc).expect("mkdir");
    let text = format!("[registry.\"{}\"]\nplain-http = true\n", registry.name());
    fs::write(etc.join("registries.toml"), text).expect("write");
    test(&registry, &podrun);
    fs::remove_dir_all(etc).expect("it is ours");
    podrun.finish();
    drop(registry);
    dir.close();
}

#[test]
fn whatever_windows_its_layers_want() {
    require!(root, program("docker-registry"));
    with_registry(|registry, podrun| {
        for (tag, windows, content) in [
            ("usual", [21; 6], Content::Zeros),
            ("large", [25; 6], Content::Zeros),
            ("mixed", [23, 25, 21, 23, 25, 22], Content::Zeros),
            ("noise", [25; 6], Content::Noise),
        ] {
            let layer = |(index, log): (usize, &u8)| Layer::new(&format!("{index}-{tag}"), *log, content);
            let layers: Vec<Layer> = windows.iter().enumerate().map(layer).collect();
            let image = push(registry, tag, &layers, &[]);
            let peak = peak_of_pull(podrun, &image);
            // The window of one layer at least was seen in use, or nothing was measured.
            let least = 1 << (windows.iter().max().expect("layers") - 10);
            assert!((least..=MOST).contains(&peak), "{tag}: {peak} KiB");
        }
    });
}

#[test]
fn whatever_its_archives_and_documents_have() {
    require!(root, program("docker-registry"));
    with_registry(|registry, podrun| {
        let environment = vec![String::new(); 99_000];
        for (tag, layers, environment) in [
            // More than 64 MiB of paths.
            ("directories", ['a', 'b', 'c'].map(|letter| listed(letter, 6_000)), &[][..]),
            // Nearly as many as there may be.
            ("unlisted", ['a', 'b', 'c'].map(|letter| unlisted(letter, 3_500)), &[]),
            ("attributes", ['a', 'b', 'c'].map(attributes), &[]),
            ("document", ['a', 'b', 'c'].map(|letter| listed(letter, 1)), &environment),
        ] {
            let image = push(registry, tag, &layers, environment);
            let peak = peak_of_pull(podrun, &image);
            assert!((1 << 10..=MOST).contains(&peak), "{tag}: {peak} KiB");
        }
    });
}
