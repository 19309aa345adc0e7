//! A pull, load or import that is killed at any moment, or a pull whose disk is full, leaves a store that can be read, and the
//! next one completes it.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::Podrun;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use podrun_testkit::{Registry, TempRoot, require};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// How often each of them is killed; `PODRUN_KILLS` asks for more.
const KILLS: u32 = 40;

/// Returns bytes that do not compress, others for each seed.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn layer(seed: u64, count: usize) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    let data = noise(seed, count);
    for (number, part) in data.chunks(200_000).enumerate() {
        let mut header = Header::new_ustar();
        header.set_size(part.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, format!("{seed}/{number}"), part).expect("memory");
    }
    archive.into_inner().expect("memory")
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn config(layers: &[Vec<u8>]) -> String {
    let architecture = podrun_image::Platform::host().architecture;
    let diff_ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
    let config = json!({ "architecture": architecture, "os": "linux", "config": { "Cmd": ["x"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    config.to_string()
}

/// Puts an image of these layers into the registry and returns its name.
fn push(registry: &Registry, layers: &[Vec<u8>]) -> String {
    let config = config(layers);
    let layers: Vec<_> = layers.iter().map(|layer| (TAR, layer.as_slice())).collect();
    registry.push("team/app", "1", config.as_bytes(), &layers);
    format!("{}/team/app:1", registry.name())
}

fn trust(podrun: &Podrun, registry: &Registry) {
    let dir = podrun.state().join("etc");
    fs::create_dir_all(&dir).expect("mkdir");
    let text = format!("[registry.\"{}\"]\nplain-http = true\n", registry.name());
    fs::write(dir.join("registries.toml"), text).expect("write");
}

fn kills() -> u32 {
    std::env::var("PODRUN_KILLS").map_or(KILLS, |text| text.parse().expect("PODRUN_KILLS is a number"))
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

/// Removes all images, and sees that nothing of them is left in the store.
fn nothing_stays(podrun: &Podrun) {
    podrun.podrun(&["image", "prune", "-a"]).ok();
    let store = podrun.state().join("data/images");
    for left in ["blobs/sha256", "layers", "joins", "incoming", "tmp"] {
        assert_eq!(entries(&store.join(left)), 0, "{left} after everything was removed");
    }
}

/// Writes a docker-archive with an image of these layers.
fn docker_archive(path: &Path, reference: &str, layers: &[Vec<u8>]) {
    let mut archive = Builder::new(fs::File::create(path).expect("create"));
    let mut add = |name: &str, content: &[u8]| {
        let mut header = Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, name, content).expect("write");
    };
    let names: Vec<_> = (0..layers.len()).map(|number| format!("{number}.tar")).collect();
    names.iter().zip(layers).for_each(|(name, layer)| add(name, layer));
    add("config.json", config(layers).as_bytes());
    let manifest = json!([{ "Config": "config.json", "RepoTags": [reference], "Layers": names }]);
    add("manifest.json", manifest.to_string().as_bytes());
    archive.finish().expect("write");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a moment that has nothing to do with what podrun does")]
fn killed_at_any_moment_the_next_one_goes_on() {
    require!(root, program("docker-registry"));
    let dir = TempRoot::new();
    let mut registry = Registry::start(dir.path());
    let podrun = Podrun::empty();
    trust(&podrun, &registry);
    let layers: Vec<_> = (1..=4).map(|seed| layer(seed, 3_000_000)).collect();
    let image = push(&registry, &layers);
    let begun = Instant::now();
    podrun.podrun(&["image", "pull", &image]).ok();
    let mut whole = begun.elapsed();
    podrun.podrun(&["image", "rm", &image]).ok();
    registry.answered();

    let kills = kills();
    let (mut resumed, mut cut) = (0, 0);
    for round in 0..kills {
        let running = podrun.spawn(&["image", "pull", "--progress=none", &image]);
        let random = u32::from(noise(u64::from(round) * 7919 + 5, 9)[8]);
        std::thread::sleep(whole.mul_f64(f64::from(random) / 200.0).min(Duration::from_secs(5)));
        running.kill();
        // The image is there whole or not at all, and the store can be read.
        let listed = podrun.podrun(&["image", "ls", "-q"]).ok();
        // The machine becomes quicker and slower; half of the pulls are to be cut off.
        whole = whole.mul_f64(if listed.is_empty() { 1.1 } else { 0.9 });
        if listed.is_empty() {
            cut += 1;
            // Sometimes it is finished, sometimes killed again.
            if random % 3 == 0 {
                podrun.podrun(&["image", "pull", "--progress=none", &image]).ok();
            }
        }
        if !podrun.podrun(&["image", "ls", "-q"]).ok().is_empty() {
            podrun.podrun(&["image", "check"]).ok();
            podrun.podrun(&["image", "rm", &image]).ok();
        }
        resumed += registry.answered().iter().filter(|one| one.status == 206).count();
    }
    assert!(cut > kills / 8, "{cut} of {kills} pulls were cut off: the moments are not well chosen");
    assert!(resumed > 0, "no transfer went on where an earlier one was cut off");

    podrun.podrun(&["image", "pull", &image]).ok();
    podrun.podrun(&["image", "check"]).ok();
    podrun.podrun(&["image", "rm", &image]).ok();
    nothing_stays(&podrun);
    fs::remove_dir_all(podrun.state().join("etc")).expect("it is ours");
    podrun.finish();
    drop(registry);
    dir.close();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a moment that has nothing to do with what podrun does")]
fn a_load_or_an_import_that_is_killed_leaves_a_store_that_can_be_read() {
    require!(root);
    let podrun = Podrun::empty();
    let layers: Vec<_> = (1..=3).map(|seed| layer(seed, 3_000_000)).collect();
    let archive = podrun.dir().join("image.tar");
    docker_archive(&archive, "localhost/app:1", &layers);
    let rootfs = podrun.dir().join("rootfs.tar");
    fs::write(&rootfs, layer(4, 6_000_000)).expect("write");
    let (archive, rootfs) = (archive.display().to_string(), rootfs.display().to_string());
    let kills = kills();
    for command in [&["image", "load", &archive][..], &["image", "import", &rootfs, "localhost/app:1"]] {
        let begun = Instant::now();
        podrun.podrun(command).ok();
        let mut whole = begun.elapsed();
        podrun.podrun(&["image", "rm", "localhost/app:1"]).ok();
        let (mut cut, mut whole_ones, mut round) = (0, 0, 0_u64);
        while cut < kills {
            let running = podrun.spawn(command);
            let random = u32::from(noise(round * 7919 + 5, 9)[8]);
            std::thread::sleep(whole.mul_f64(f64::from(random) / 200.0).min(Duration::from_secs(5)));
            running.kill();
            round += 1;
            // The image is there whole or not at all, and the store can be read.
            let listed = podrun.podrun(&["image", "ls", "-q"]).ok();
            // The machine becomes quicker and slower; half of them are to be killed.
            whole = whole.mul_f64(if listed.is_empty() { 1.1 } else { 0.9 });
            if listed.is_empty() {
                cut += 1;
                // Sometimes it is finished, sometimes killed again, sometimes given up.
                match random % 4 {
                    0 => drop(podrun.podrun(command).ok()),
                    1 => {
                        nothing_stays(&podrun);
                        continue;
                    }
                    _ => continue,
                }
            } else {
                whole_ones += 1;
            }
            podrun.podrun(&["image", "check"]).ok();
            podrun.podrun(&["image", "rm", "localhost/app:1"]).ok();
        }
        assert!(whole_ones < kills * 8, "{whole_ones} ended before: the moments are not well chosen");
        podrun.podrun(command).ok();
        podrun.podrun(&["image", "check"]).ok();
        nothing_stays(&podrun);
    }
    podrun.finish();
}

#[test]
fn a_full_disk_is_told_and_once_there_is_room_the_pull_succeeds() {
    require!(root, program("docker-registry"));
    let dir = TempRoot::new();
    let registry = Registry::start(dir.path());
    let podrun = Podrun::empty();
    let state = podrun.state();
    fs::create_dir_all(&state).expect("mkdir");
    let size = |flags, size: &str| {
        let options = format!("size={size},mode=0700");
        mount(Some("tmpfs"), &state, Some("tmpfs"), flags, Some(options.as_str())).expect("tmpfs");
    };
    // A blob of twelve megabytes and its files need twenty-four.
    size(MsFlags::empty(), "16m");
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        trust(&podrun, &registry);
        let image = push(&registry, &[layer(9, 12_000_000)]);
        for _ in 0..2 {
            let told = podrun.podrun(&["image", "pull", "--progress=none", &image]).fails(1);
            assert!(told.contains("No space left on device"), "{told}");
            assert_eq!(podrun.podrun(&["image", "ls", "-q"]).ok(), "");
            // What had come is not kept: the disk is the machine's, and others need it too.
            let store = state.join("data/images");
            let left: u64 = fs::read_dir(store.join("incoming"))
                .expect("readable")
                .map(|entry| entry.expect("entry").metadata().expect("stat").len())
                .sum();
            assert_eq!((left, entries(&store.join("tmp"))), (0, 0));
        }
        size(MsFlags::MS_REMOUNT, "64m");
        podrun.podrun(&["image", "pull", "--progress=none", &image]).ok();
        podrun.podrun(&["image", "check"]).ok();
    }));
    umount2(&state, MntFlags::MNT_DETACH).expect("it is mounted");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    podrun.finish();
    drop(registry);
    dir.close();
}
