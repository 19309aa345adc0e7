//! Which images go when the disk is nearly full, by a kubelet's rules.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use super::{Pruned, Store};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// When to make room, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskThresholds {
    /// Nothing is removed while less than so many percent of the disk are used: 85, as a kubelet's
    /// `imageGCHighThresholdPercent`.
    pub high: u8,
    /// Otherwise images are removed until no more than this is used: 80, as `imageGCLowThresholdPercent`.
    pub low: u8,
    /// Images that have been here for less time stay: two minutes, as `imageMinimumGCAge`.
    pub min_age: Duration,
}

impl Default for DiskThresholds {
    fn default() -> Self {
        Self { high: 85, low: 80, min_age: Duration::from_secs(120) }
    }
}

impl DiskThresholds {
    /// Returns the thresholds with these percentages.
    #[must_use]
    pub fn with_percent(self, high: u8, low: u8) -> Self {
        Self { high, low, ..self }
    }

    /// Returns the thresholds with this age.
    #[must_use]
    pub fn with_min_age(self, min_age: Duration) -> Self {
        Self { min_age, ..self }
    }
}

/// How full a disk is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUse {
    /// All of it.
    pub capacity: u64,
    /// What is left for programs without privileges.
    pub available: u64,
}

/// An image that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its manifest.
    pub manifest: Digest,
    /// When it was last used.
    pub last_used: SystemTime,
    /// When it came.
    pub loaded: SystemTime,
    /// Its blobs and unpacked layers, with the bytes of each. Images share them.
    pub parts: Vec<(Digest, u64)>,
}

/// What is to go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collection {
    /// Images, in the order in which they are to go.
    pub remove: Vec<Digest>,
    /// Bytes that should be freed.
    pub wanted: u64,
    /// Bytes that removing these images frees.
    pub found: u64,
}

impl DiskUse {
    /// Returns the used part in percent, rounded up as a kubelet does; what root alone may use counts as used.
    pub fn percent(&self) -> u8 {
        match self.capacity {
            0 => 0,
            capacity => {
                let free = u128::from(self.available.min(capacity)) * 100 / u128::from(capacity);
                u8::try_from(100 - free).unwrap_or(100)
            }
        }
    }
}

/// Chooses the images to remove. Those that were used longest ago go first, and of several the one that came first;
/// bytes count as freed when the last image goes that has them. `kept` are the parts of images that stay.
///
/// ```
/// use std::collections::BTreeSet;
/// use std::time::{Duration, SystemTime};
///
/// use podrun_image::{Candidate, Digest, DiskThresholds, DiskUse, collect};
///
/// let day = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(n * 86_400);
/// let image = |name: &str, used: u64| {
///     let manifest = Digest::of(name.as_bytes());
///     Candidate { manifest, last_used: day(used), loaded: day(1), parts: vec![(manifest, 10)] }
/// };
/// let disk = DiskUse { capacity: 100, available: 10 };
/// let images = [image("new", 8), image("old", 7)];
/// let choice = collect(disk, DiskThresholds::default(), &images, &BTreeSet::new(), day(9));
/// assert_eq!((choice.remove, choice.wanted, choice.found), (vec![images[1].manifest], 10, 10));
/// ```
pub fn collect(
    disk: DiskUse,
    thresholds: DiskThresholds,
    images: &[Candidate],
    kept: &BTreeSet<Digest>,
    now: SystemTime,
) -> Collection {
    if disk.percent() < thresholds.high {
        return Collection::default();
    }
    let low = u128::from(100 - thresholds.low.min(100));
    let target = u64::try_from(u128::from(disk.capacity) * low / 100).unwrap_or(u64::MAX);
    let wanted = target.saturating_sub(disk.available);
    let mut holders: HashMap<Digest, u64> = HashMap::new();
    for (part, _) in images.iter().flat_map(|image| distinct(&image.parts)) {
        *holders.entry(part).or_default() += 1;
    }
    let mut order: Vec<&Candidate> = images.iter().collect();
    order.sort_by_key(|image| (image.last_used, image.loaded, image.manifest));
    let mut choice = Collection { wanted, ..Collection::default() };
    for image in order {
        if choice.found >= wanted {
            break;
        }
        // What came or was used after now is as young as can be.
        if now.duration_since(image.loaded).unwrap_or_default() < thresholds.min_age {
            continue;
        }
        for (part, bytes) in distinct(&image.parts) {
            let left = holders.entry(part).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 && !kept.contains(&part) {
                choice.found = choice.found.saturating_add(bytes);
            }
        }
        choice.remove.push(image.manifest);
    }
    choice
}

/// An image may have the same layer twice.
fn distinct(parts: &[(Digest, u64)]) -> HashMap<Digest, u64> {
    parts.iter().copied().collect()
}

impl Store {
    /// Returns how full the disk is that the store is on.
    ///
    /// # Errors
    ///
    /// [`Error::File`] with the errno of statvfs(3).
    pub fn disk_use(&self) -> Result<DiskUse> {
        let path = self.path();
        let stat = nix::sys::statvfs::statvfs(path).map_err(Error::file("stat the file system of", path))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
        Ok(DiskUse { capacity: bytes(stat.blocks()), available: bytes(stat.blocks_available()) })
    }

    /// Removes images that nobody uses if the disk is fuller than it may be; see [`collect`].
    ///
    /// # Errors
    ///
    /// As [`Store::prune`].
    pub fn free_disk(&self, thresholds: DiskThresholds) -> Result<(Collection, Pruned)> {
        let (disk, now) = (self.disk_use()?, SystemTime::now());
        let mut choice = Collection::default();
        let pruned = self.remove_chosen(|idle, staying| {
            let candidates: Vec<Candidate> = idle.iter().map(|image| self.candidate(image)).collect();
            let kept =
                staying.iter().flat_map(|image| self.parts_with_sizes(image)).map(|(part, _)| part).collect();
            choice = collect(disk, thresholds, &candidates, &kept, now);
            choice.remove.clone()
        })?;
        Ok((choice, pruned))
    }

    fn candidate(&self, image: &super::Image) -> Candidate {
        Candidate {
            manifest: image.manifest,
            last_used: self.last_used(&image.manifest),
            loaded: self.loaded(&image.manifest),
            parts: self.parts_with_sizes(image),
        }
    }

    /// Returns the blobs and layers of an image with their bytes. An uncompressed blob has the digest of its layer; the
    /// two are one part then.
    fn parts_with_sizes(&self, image: &super::Image) -> Vec<(Digest, u64)> {
        let mut parts: HashMap<Digest, u64> = HashMap::new();
        let blobs = image.parts.blobs.iter().map(|digest| (digest, self.layout.blob(digest)));
        let layers = image.parts.layers.iter().map(|digest| (digest, self.layout.layer(digest)));
        for (digest, path) in blobs.chain(layers) {
            *parts.entry(*digest).or_default() += super::remove::size_of(&path);
        }
        parts.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// `name used loaded part:bytes part:bytes`
    fn image(text: &str) -> Candidate {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |text: &str| text.parse().expect("a number");
        Candidate {
            manifest: digest(words[0]),
            last_used: at(number(words[1])),
            loaded: at(number(words[2])),
            parts: words[3..]
                .iter()
                .map(|part| part.split_once(':').expect("part:bytes"))
                .map(|(part, bytes)| (digest(part), number(bytes)))
                .collect(),
        }
    }

    #[test]
    fn images_go_in_the_order_of_their_last_use_until_there_is_room() {
        let now = 10_000;
        for (available, images, kept, removed, found) in [
            // 84 percent are below the threshold of 85.
            (16, vec!["a 1 1 x:50"], vec![], vec![], 0),
            (15, vec!["a 1 1 x:50"], vec![], vec!["a"], 50),
            (10, vec!["b 2 1 y:10", "a 1 1 x:10"], vec![], vec!["a"], 10),
            (10, vec!["b 2 1 y:9", "a 1 1 x:9"], vec![], vec!["a", "b"], 18),
            // Of two that were last used at one time the first that came goes first.
            (10, vec!["b 1 2 y:10", "a 1 1 x:10"], vec![], vec!["a"], 10),
            // What is too young stays, however full the disk is.
            (0, vec!["a 1 9881 x:10", "b 2 9880 y:10", "c 3 10050 z:10"], vec![], vec!["b"], 10),
            // Shared parts count when the last image goes that has them, and never if one stays.
            (10, vec!["a 1 1 s:10", "b 2 1 s:10", "c 3 1 z:9"], vec![], vec!["a", "b"], 10),
            (10, vec!["a 1 1 s:10 s:10 x:1", "b 2 1 y:8", "c 3 1 z:9"], vec!["s"], vec!["a", "b", "c"], 18),
            // There may be too little.
            (5, vec!["a 1 1 x:3"], vec![], vec!["a"], 3),
            (5, vec![], vec![], vec![], 0),
        ] {
            let candidates: Vec<Candidate> = images.iter().map(|text| image(text)).collect();
            let kept = kept.into_iter().map(digest).collect();
            let disk = DiskUse { capacity: 100, available };
            let choice = collect(disk, DiskThresholds::default(), &candidates, &kept, at(now));
            let removed: Vec<_> = removed.into_iter().map(digest).collect();
            assert_eq!((choice.remove, choice.found), (removed, found), "{available} {images:?}");
            assert_eq!(choice.wanted, if available > 15 { 0 } else { 20 - available });
        }
    }

    #[test]
    fn percentages_of_odd_disks_make_sense() {
        for (capacity, available, percent) in [
            (0, 0, 0),
            (100, 100, 0),
            (100, 0, 100),
            (100, 200, 0),
            (1000, 999, 1),
            (u64::MAX, u64::MAX / 2, 51),
            (3, 1, 67),
        ] {
            assert_eq!(DiskUse { capacity, available }.percent(), percent, "{capacity} {available}");
        }
        let full = DiskUse { capacity: u64::MAX, available: 0 };
        let strict = DiskThresholds::default().with_percent(0, 0);
        let choice = collect(full, strict, &[image("a 1 1 x:1")], &BTreeSet::new(), at(10_000));
        assert_eq!((choice.remove.len(), choice.wanted), (1, u64::MAX));
    }
}
