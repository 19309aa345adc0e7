//! A process that works on the store is killed at any instruction, again and again.
//!
//! `PODRUN_KILLS` is how often. The victim is this test program itself, started for one of its tests.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use podrun_testkit::require;

use super::*;
use crate::testing::{TestImage, to_tar};
use crate::{ImportOptions, LoadOptions};

const KILLS: u64 = 60;
/// Says to the victim what to do: a directory and a number.
const ORDER: &str = "PODRUN_CRASH_ORDER";

fn layer(name: &str, files: usize) -> Vec<u8> {
    let mut tar = TarFile::new();
    tar.dir("etc").file("etc/name", name);
    for number in 0..files {
        tar.file(&format!("{name}/{}/{number}", number % 7), &format!("{name} {number}").repeat(50));
    }
    tar.hard_link("link", "etc/name").finish()
}

/// What is loaded: two images that share a layer, and a root file system.
fn prepare(dir: &Path) {
    for (name, top) in [("a", "one"), ("b", "two")] {
        let image = TestImage::new(&[layer("shared", 60), layer(top, 40), layer(name, 20)]);
        fs::write(dir.join(name), to_tar(&image.docker(&[&format!("{name}:1")]))).expect("write");
    }
    fs::write(dir.join("c"), layer("c", 80)).expect("write");
}

/// Does one thing of many to the store.
fn work(dir: &Path, number: u64) -> Result<()> {
    let store = Store::open(&dir.join("store"))?;
    let replace = LoadOptions { replace: true, ..LoadOptions::default() };
    match number % 6 {
        0 | 1 => drop(store.load(&dir.join("a"), &replace)?),
        2 => drop(store.load(&dir.join("b"), &replace)?),
        3 => {
            let options = ImportOptions { replace: true, ..ImportOptions::default() };
            let name = "c:1".parse().expect("valid");
            store.import(&dir.join("c"), &name, &options)?;
        }
        4 => match store.remove("a:1", false) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        },
        _ => drop(store.prune(&PruneOptions { all: number % 12 == 5, ..PruneOptions::default() })?),
    }
    Ok(())
}

/// The process that is killed; as a test it does nothing.
#[test]
fn the_victim_of_the_crash_test() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let (number, dir) = order.split_once(' ').expect("a number and a directory");
    work(Path::new(dir), number.parse().expect("a number")).expect("nobody kills");
}

#[expect(clippy::disallowed_methods, reason = "this program, to be killed")]
fn victim(dir: &Path, number: u64) -> std::process::Child {
    let name = "store::tests::crash::the_victim_of_the_crash_test";
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--test-threads=1"])
        .env(ORDER, format!("{number} {}", dir.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the victim")
}

/// Waits so long; there is no event in a process that is to be killed anywhere.
#[expect(clippy::disallowed_methods, reason = "the moment is to be arbitrary")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[test]
fn whenever_a_process_is_killed_the_store_is_readable_and_the_next_one_completes() {
    // Without root layers belong to whoever unpacks, and there are no whiteouts here; root is for the check.
    require!(root);
    let dir = tempfile::tempdir().expect("temporary directory");
    prepare(dir.path());
    let kills = std::env::var("PODRUN_KILLS").map_or(KILLS, |text| text.parse().expect("a number"));
    // How long each kind of work takes; kills are spread over that and a little more.
    let mut took: Vec<Duration> = (0..6)
        .map(|number| {
            let start = Instant::now();
            assert!(victim(dir.path(), number).wait().expect("wait").success(), "undisturbed");
            start.elapsed()
        })
        .collect();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |bound: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % bound
    };
    let mut killed = 0;
    for round in 0..kills {
        let number = random(12);
        let whole = &mut took[usize::try_from(number % 6).expect("small")];
        let delay =
            Duration::from_micros(random(u64::try_from(whole.as_micros()).expect("short") * 11 / 10 + 1));
        let mut process = victim(dir.path(), number);
        pause(delay);
        process.kill().expect("kill");
        let was_killed = !process.wait().expect("wait").success();
        killed += u64::from(was_killed);
        let context = format!("round {round}, work {number}, killed after {delay:?} of {whole:?}");
        // The machine becomes quicker and slower; half of them are to be killed.
        *whole = whole.mul_f64(if was_killed { 1.1 } else { 0.9 });

        let store =
            Store::open(&dir.path().join("store")).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        let list = store.list().unwrap_or_else(|error| panic!("{context}: {error:?}"));
        assert!(list.damaged.is_empty(), "{context}: {:?}", list.damaged);
        work(dir.path(), number).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        if round % 4 == 3 {
            let report = store.check(&CheckOptions::default(), |_| {}).expect("check");
            assert!(report.findings.is_empty(), "{context}: {:?}", report.findings);
        }
        store.prune(&PruneOptions::default()).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        assert_nothing_else(&store, &context);
    }
    assert!(killed > kills / 8, "only {killed} of {kills} were killed before they had ended");
}

/// What is in the store is what its images need.
fn assert_nothing_else(store: &Store, context: &str) {
    let images = store.list().expect("list").images;
    let names = |part: &str| {
        let entries = fs::read_dir(store.path().join(part)).expect("read");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    };
    let of = |digests: fn(&Image) -> Vec<Digest>| {
        let mut hex: Vec<String> = images.iter().flat_map(digests).map(|digest| digest.hex()).collect();
        hex.sort();
        hex.dedup();
        hex
    };
    assert_eq!(names("blobs/sha256"), of(|image| image.parts.blobs.clone()), "{context}");
    assert_eq!(names("layers"), of(|image| image.parts.layers.clone()), "{context}");
    assert_eq!(names("joins"), of(|image| image.parts.chain.into_iter().collect()), "{context}");
    assert_eq!((names("tmp"), names("incoming")), (Vec::new(), Vec::new()), "{context}");
    let root: Vec<PathBuf> =
        fs::read_dir(store.path()).expect("read").map(|entry| entry.expect("entry").path()).collect();
    assert!(!root.iter().any(|path| path.extension().is_some_and(|end| end == "new")), "{context}: {root:?}");
}
