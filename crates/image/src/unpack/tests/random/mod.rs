//! Random archives against a model: every tree is what the model says, archives are refused that the model refuses, and
//! nothing outside the layer is ever touched.
//!
//! `PODRUN_HOSTILE_ARCHIVES` is how many archives there are, `PODRUN_HOSTILE_SEED` where to begin. A failure says its
//! seed; with that and one archive it comes again alone.

mod generator;
mod model;
pub(crate) mod real;

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use podrun_testkit::{child, require};

use self::generator::Random;
pub(crate) use self::model::Listing;
use self::model::{Model, merged};
use crate::digest::Digest;
use crate::protection::{Protection, weak};
use crate::store::testing::{join_layers, write_facts};
use crate::stream::Streamed;
use crate::sys;
use crate::tar_stream::TarReader;
use crate::testing::describe;
use crate::unpack::implied::Quota;
use crate::unpack::unpack;

/// Archives that are made where nobody says how many.
const ARCHIVES: u64 = 100_000;
/// Archives of one child process.
const BATCH: u64 = 5_000;
/// One image in so many is mounted, which takes longer than to unpack it.
const MOUNTED: usize = 24;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")),
        Err(_) => default,
    }
}

#[test]
fn random_archives_are_what_the_model_says_and_stay_inside() {
    require!(root, overlay);
    let (count, seed) = (number("PODRUN_HOSTILE_ARCHIVES", ARCHIVES), number("PODRUN_HOSTILE_SEED", 1));
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let begin = next.fetch_add(BATCH, Ordering::Relaxed);
                    if begin >= count {
                        return;
                    }
                    let dir = tempfile::tempdir().expect("temporary directory");
                    child::run(|| batch(dir.path(), seed + begin, BATCH.min(count - begin)));
                }
            });
        }
    });
}

#[test]
fn the_model_notices_every_protection_that_is_off() {
    require!(root, overlay);
    for protection in [
        Protection::ResolveInRoot,
        Protection::ParentComponent,
        Protection::CreateExclusively,
        Protection::LinkNotFollowed,
        Protection::HardLinkTarget,
        Protection::Root,
        Protection::WhiteoutName,
        Protection::DeviceNode,
        Protection::Attributes,
        Protection::ParentNotDirectory,
    ] {
        let dir = tempfile::tempdir().expect("temporary directory");
        // The child ends at the first archive that does not turn out as it should.
        let noticed = weak::without(protection, || {
            std::panic::catch_unwind(|| child::run(|| batch(dir.path(), 1, 3_000))).is_err()
        });
        assert!(noticed, "3000 archives tell nothing of {protection:?}");
    }
}

/// Makes archives in a file system of their own, which goes with this process.
fn batch(dir: &Path, seed: u64, count: u64) {
    let place = Place::new(dir);
    let mut made = 0;
    while made < count {
        made += place.image(seed + made, count - made);
    }
}

/// A tmpfs, which is all that this process sees, with a directory that must not change and room for layers.
struct Place {
    before: Vec<String>,
}

const OUTSIDE: &str = "/canary";
const LAYERS: &str = "/layers";
const MOUNT: &str = "/mount";

impl Place {
    fn new(dir: &Path) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some("size=512m")).expect("tmpfs");
        nix::unistd::chroot(dir).and_then(|()| nix::unistd::chdir("/")).expect("chroot");
        let outside = Path::new(OUTSIDE);
        for dir in [OUTSIDE, LAYERS, MOUNT] {
            fs::create_dir(dir).expect("create");
        }
        fs::write(outside.join("file"), "alive").expect("write");
        fs::hard_link(outside.join("file"), outside.join("linked")).expect("link");
        std::os::unix::fs::symlink("file", outside.join("link")).expect("symlink");
        nix::unistd::mkfifo(&outside.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        Self { before: outside_of_layers() }
    }

    /// Unpacks the layers of one image; returns how many there were.
    fn image(&self, seed: u64, most: u64) -> u64 {
        let mut random = Random::new(seed);
        let count = (1 + random.below(3) as u64).min(most);
        let mut layers: Vec<(PathBuf, Model)> = Vec::new();
        for number in 0..count {
            let items = generator::archive(&mut random, OUTSIDE);
            let path = Path::new(LAYERS).join(number.to_string());
            let context = || format!("seed {seed}, layer {number}: {items:#?}");
            if let Some(model) = self.layer(&path, &items, &context) {
                layers.push((path, model));
            }
        }
        if layers.len() > 1 && random.below(MOUNTED) == 0 {
            Self::mounted(&layers, seed);
        }
        crate::unpack::remove::remove_tree(open(Path::new("/")), b"layers").expect("remove");
        fs::create_dir(LAYERS).expect("create");
        count
    }

    /// Unpacks a layer and compares it; returns the model if it is a valid one.
    fn layer(&self, path: &Path, items: &[generator::Item], context: &dyn Fn() -> String) -> Option<Model> {
        let diff = path.join("diff");
        fs::create_dir_all(&diff).expect("create");
        let bytes = generator::encode(items);
        let mut tar = TarReader::new(Streamed(&bytes[..]), 10_000);
        let result = unpack(&mut tar, open(&diff), 1 << 20, &Quota::default());
        assert_eq!(outside_of_layers(), self.before, "outside, {}", context());
        assert!(fs::symlink_metadata(&diff).is_ok_and(|meta| meta.is_dir()), "root, {}", context());
        let (stats, model) = match (result, Model::of(items)) {
            (Ok(stats), Ok(model)) => (stats, model),
            (Err(_), Err(_)) => return None,
            (real, model) => panic!("unpacked {real:?}, model {model:?}, {}", context()),
        };
        if let Some(difference) = model.listing().difference(&real::listing(open(&diff))) {
            panic!("{difference}\n{}", context());
        }
        assert_eq!(
            (stats.opaque_root, &stats.implied),
            (model.opaque_root, &model.implied()),
            "{}",
            context()
        );
        write_facts(path, Digest::of(&bytes), &stats);
        Some(model)
    }

    /// Mounts the layers and compares what is seen then.
    fn mounted(layers: &[(PathBuf, Model)], seed: u64) {
        let paths: Vec<PathBuf> = layers.iter().map(|(path, _)| path.clone()).collect();
        let lower = join_layers(&paths, &Path::new(LAYERS).join("join"));
        if lower.len() < 2 {
            return;
        }
        let models: Vec<Model> = layers.iter().map(|(_, model)| model.clone()).collect();
        let target = Path::new(MOUNT);
        let text: Vec<String> = lower.iter().rev().map(|path| path.display().to_string()).collect();
        let options = format!("lowerdir={},redirect_dir=nofollow", text.join(":"));
        mount(Some("overlay"), target, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str()))
            .unwrap_or_else(|error| panic!("mount {options}: {error}, seed {seed}"));
        let found = real::listing(open(target));
        umount2(target, MntFlags::empty()).expect("unmount");
        if let Some(difference) = merged(&models).difference(&found) {
            panic!("mounted, {difference}\nseed {seed}, layers of {models:#?}");
        }
    }
}

/// Describes what must not change: the canary, and what else there is.
fn outside_of_layers() -> Vec<String> {
    let mut lines = describe(Path::new(OUTSIDE));
    for dir in ["/", MOUNT] {
        let entries = fs::read_dir(dir).expect("read");
        lines.extend(entries.map(|entry| format!("{dir} {:?}", entry.expect("entry").file_name())));
        let names = sys::flistxattr(open(Path::new(dir)).as_fd()).expect("list");
        lines.push(format!("{dir} {:?}", String::from_utf8_lossy(&names)));
    }
    lines.sort();
    lines
}

fn open(path: &Path) -> OwnedFd {
    File::open(path).expect("open").into()
}
