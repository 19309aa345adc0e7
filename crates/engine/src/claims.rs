//! What the Pods of this machine hold of it: one file for each admitted Pod that has not ended.
//!
//! ```text
//! <data>/claims/<uid>     its requests and ports on the node
//! ```
//!
//! A Pod looks for room and claims it under the lock under which names are given, so that two Pods cannot both take the
//! last of it. Giving room back needs no lock, and whoever waits for room learns of it by inotify(7).

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use podrun_plan::admission::{Admission, Claim, Listener, Node, TakenPort, admit, taken_ports};
use podrun_spec::model::Pod;

use crate::error::{Error, Result};
use crate::paths::{Paths, create_private_dir, lock, remove_file};
use crate::record::{Record, read_json, write_json};

/// The claims below one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    data: PathBuf,
    dir: PathBuf,
}

impl Claims {
    pub(crate) fn new(paths: &Paths) -> Self {
        Self { data: paths.data.clone(), dir: paths.data.join("claims") }
    }

    /// Decides whether a Pod may run; one that may has claimed its room.
    ///
    /// # Errors
    /// Any errno of the lock or of a file; the claim of another Pod that cannot be read.
    pub(crate) fn admit(&self, pod: &Pod, node: &Node) -> Result<Admission> {
        create_private_dir(&self.dir)?;
        let _lock = lock(&self.data)?;
        let wanted = Claim::of(pod);
        // A Pod that wants nothing of its own is only counted.
        let counts = wanted == Claim::default();
        let held = self.of_others(&pod.meta.uid, !counts)?;
        let held: Vec<Claim> = held.into_iter().map(|(_, claim)| claim).collect();
        let admission = admit(pod, node, &held);
        if admission == Admission::Fits {
            self.write(&pod.meta.uid, &wanted)?;
        }
        Ok(admission)
    }

    /// Returns the ports that a Pod wants and others have now, with who has them.
    ///
    /// # Errors
    /// Any errno of listing the claims.
    pub(crate) fn taken_ports(&self, pod: &Pod, listeners: &[Listener]) -> Result<Vec<TakenPort>> {
        let held = self.of_others(&pod.meta.uid, true)?;
        Ok(taken_ports(pod, listeners, held.iter().map(|(uid, claim)| (uid.as_str(), claim))))
    }

    /// Writes down what a Pod holds that was admitted before.
    pub(crate) fn keep(&self, pod: &Pod) -> Result<()> {
        if self.path(&pod.meta.uid).exists() {
            return Ok(());
        }
        create_private_dir(&self.dir)?;
        // Without the lock a sweep could take the half-written file for a remnant.
        let _lock = lock(&self.data)?;
        self.write(&pod.meta.uid, &Claim::of(pod))
    }

    /// Gives back what a Pod holds; fine if that is nothing.
    pub(crate) fn release(&self, uid: &str) -> Result<()> {
        remove_file(&self.path(uid))
    }

    /// Returns the files of all claims.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        match fs::read_dir(&self.dir) {
            Ok(entries) => {
                Ok(entries.filter_map(std::result::Result::ok).map(|entry| entry.path()).collect())
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(Error::io("list", &self.dir, source)),
        }
    }

    /// Returns what other Pods hold, by their UIDs.
    fn of_others(&self, uid: &str, read: bool) -> Result<Vec<(String, Claim)>> {
        let mut held = Vec::new();
        for path in self.files()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // One that is being written has not been made under the lock, which is ours.
            if name == uid || name.starts_with('.') {
                continue;
            }
            // One that has gone meanwhile is room. One that cannot be read is its Pod's trouble, and counts as it was meant.
            let claim = if read { read_json(&path) } else { Ok(Some(Claim::default())) };
            let claim = claim.unwrap_or_else(|_| Some(self.of_record(&name)));
            held.extend(claim.map(|claim| (name.into_owned(), claim)));
        }
        Ok(held)
    }

    /// Returns what a Pod wants by its record; nothing where that cannot be read either.
    fn of_record(&self, uid: &str) -> Claim {
        let path = self.data.join("pods").join(uid).join("record.json");
        let record: Option<Record> = read_json(&path).ok().flatten();
        let pod = record.and_then(|record| record.to_pod(&path).ok());
        pod.map(|pod| Claim::of(&pod)).unwrap_or_default()
    }

    fn write(&self, uid: &str, claim: &Claim) -> Result<()> {
        write_json(&self.path(uid), claim, false)
    }

    fn path(&self, uid: &str) -> PathBuf {
        self.dir.join(uid)
    }

    /// Begins to watch for room, and for changes in the directory of configuration.
    pub(crate) fn watch(&self, config: &Path) -> Result<RoomWatch> {
        create_private_dir(&self.dir)?;
        let watch = || {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            inotify.add_watch(&self.dir, AddWatchFlags::IN_DELETE)?;
            Ok(inotify)
        };
        let inotify = watch().map_err(|errno: nix::Error| Error::io("watch", &self.dir, errno.into()))?;
        let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
        // Without the directory there is no configuration that could change.
        let _ = inotify.add_watch(config, flags);
        Ok(RoomWatch { inotify })
    }
}

/// Is readable when there may be more room than before.
#[derive(Debug)]
pub(crate) struct RoomWatch {
    inotify: Inotify,
}

impl RoomWatch {
    /// Takes note of what has happened: everything is looked at again anyway.
    pub(crate) fn clear(&self) {
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

impl AsFd for RoomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use podrun_spec::quantity::Quantity;

    use super::*;

    fn claims() -> (tempfile::TempDir, Claims) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        paths.create().unwrap();
        (dir, Claims::new(&paths))
    }

    fn pod(uid: &str, cpu: &str) -> Pod {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [
             {{name: c, image: i, resources: {{requests: {{cpu: {cpu}}}}}}}]}}}}"
        );
        let mut pod = podrun_spec::parse("p.yaml", &text).unwrap().pods.remove(0).pod;
        uid.clone_into(&mut pod.meta.uid);
        pod
    }

    fn node() -> Node {
        let allocatable = [("cpu", 2), ("pods", 3)];
        let allocatable = allocatable.map(|(name, amount)| (name.to_owned(), Quantity::from_units(amount)));
        Node { allocatable: allocatable.into(), ..Node::default() }
    }

    fn fits(claims: &Claims, pod: &Pod) -> bool {
        claims.admit(pod, &node()).unwrap() == Admission::Fits
    }

    #[test]
    fn room_is_claimed_once_and_given_back() {
        let (_dir, claims) = claims();
        let (first, second) = (pod("u-1", "1500m"), pod("u-2", "1"));
        assert!(fits(&claims, &first) && fits(&claims, &first), "its own claim is not in its way");
        assert!(!fits(&claims, &second));
        claims.release("u-1").unwrap();
        claims.release("u-1").unwrap();
        assert!(fits(&claims, &second));
        assert_eq!(claims.files().unwrap().len(), 1);
    }

    #[test]
    fn pods_without_requests_are_counted() {
        let (_dir, claims) = claims();
        for (uid, expected) in [("u-1", true), ("u-2", true), ("u-3", true), ("u-4", false)] {
            assert_eq!(fits(&claims, &pod(uid, "0")), expected, "{uid}");
        }
    }

    #[test]
    fn the_last_room_goes_to_one_of_many() {
        let (_dir, claims) = claims();
        let admitted = std::thread::scope(|scope| {
            let claims = &claims;
            let seek = |n| scope.spawn(move || fits(claims, &pod(&format!("u-{n}"), "2")));
            let threads: Vec<_> = (0..8).map(seek).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|fits| *fits).count()
        });
        assert_eq!(admitted, 1);
    }

    #[test]
    fn who_waits_learns_of_room() {
        let (dir, claims) = claims();
        let config = dir.path().join("etc");
        fs::create_dir(&config).unwrap();
        assert!(fits(&claims, &pod("u-1", "2")));
        let watch = claims.watch(&config).unwrap();
        let readable = |watch: &RoomWatch| {
            let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
        };
        claims.keep(&pod("u-2", "1")).unwrap();
        assert!(!readable(&watch), "a claim is no room");
        claims.release("u-1").unwrap();
        assert!(readable(&watch));
        watch.clear();
        assert!(!readable(&watch));
        fs::write(config.join("config.toml"), "").unwrap();
        assert!(readable(&watch), "labels may have changed");
    }
}
