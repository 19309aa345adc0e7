//! Removing a cgroup with everything in it.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl Cgroup {
    /// Kills every process in the cgroup, waits until they are gone, and removes the cgroup with all its descendants.
    ///
    /// It may be repeated: a cgroup that is already gone is success. A cgroup of the same name that was created later
    /// is left alone.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] if processes survive until `deadline` (in uninterruptible sleep), [`Error::StillBusy`] with
    /// the deepest path that could not be removed until then, [`Error::Remove`] if the kernel refuses for another
    /// reason, such as `EACCES`.
    #[doc(alias = "rmdir")]
    pub fn remove_tree(&self, deadline: Instant) -> Result<()> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.kill() {
                Err(error) if error.is_gone() => {}
                other => other?,
            }
            // An event tells when the last process has left, so that the directories are tried when they can go.
            self.wait_empty(deadline)?;
            let Some(path) = self.remove_directories()? else { return Ok(()) };
            // Empty and yet busy: a process was added or a cgroup created since, or the kernel is still letting go of
            // the last task. Not all of that makes an event, so each pause ends by itself too, after twice the time.
            let now = Instant::now();
            if now >= deadline {
                return Err(Error::StillBusy { path, waited: start.elapsed() });
            }
            self.wait_for_change(deadline.min(now + pause))?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits until `cgroup.events` changes or `until` has come.
    fn wait_for_change(&self, until: Instant) -> Result<()> {
        let changed = self.events_fd().and_then(|events| {
            // Only what has been read can change.
            events.read()?;
            events.wait(until)
        });
        match changed {
            Err(error) if error.is_gone() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes the cgroup if nothing is in it, neither a process nor a cgroup. Returns whether it is gone. Does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::Remove`] if the kernel refuses for another reason, such as `EACCES`.
    #[doc(alias = "rmdir")]
    pub fn remove_if_empty(&self) -> Result<bool> {
        let removed = self.parent().map(|parent| rmdir(&parent, self));
        match removed {
            Ok(Ok(())) => Ok(true),
            Ok(Err(Errno::EBUSY | Errno::ENOTEMPTY)) => Ok(false),
            Ok(Err(errno)) => {
                Err(Error::Remove { path: self.path().to_owned(), source: io::Error::from(errno) })
            }
            Err(error) if error.is_gone() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Removes the child `name` as [`Cgroup::remove_tree`] does. It is success if there is none.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::remove_tree`]; [`Error::InvalidName`].
    pub fn remove_child(&self, name: &str, deadline: Instant) -> Result<()> {
        match self.child(name) {
            Err(error) if error.is_gone() => Ok(()),
            child => child?.remove_tree(deadline),
        }
    }

    /// Removes all directories once, children before parents. Returns the path of the first that is busy.
    ///
    /// What runs in the tree decides how deep it is, so one fd and no recursion serve any depth.
    fn remove_directories(&self) -> Result<Option<PathBuf>> {
        let mut current = self.try_clone()?;
        // Names still to be visited, per level from this cgroup down to `current`.
        let mut pending = vec![list(&current)?];
        loop {
            if let Some(name) = pending.last_mut().and_then(Vec::pop) {
                match current.child(&name) {
                    Ok(child) => {
                        pending.push(list(&child)?);
                        current = child;
                    }
                    Err(error) if error.is_gone() => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            let parent = current.parent()?;
            match rmdir(&parent, &current) {
                Ok(()) => {}
                Err(Errno::EBUSY) => return Ok(Some(current.path().to_owned())),
                Err(errno) => {
                    let path = current.path().to_owned();
                    return Err(Error::Remove { path, source: io::Error::from(errno) });
                }
            }
            pending.pop();
            if pending.is_empty() {
                return Ok(None);
            }
            current = parent;
        }
    }
}

/// Returns the names of the children; a cgroup that is gone has none.
fn list(cgroup: &Cgroup) -> Result<Vec<String>> {
    match cgroup.children() {
        Err(error) if error.is_gone() => Ok(Vec::new()),
        other => other,
    }
}

/// Removes the directory of `cgroup` from `parent`, if that name still means this cgroup.
fn rmdir(parent: &Cgroup, cgroup: &Cgroup) -> Result<(), Errno> {
    let Some(name) = cgroup.path().file_name() else { return Err(Errno::EINVAL) };
    let name_now = nix::sys::stat::fstatat(parent, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW);
    let (ours, named) = match (fstat(cgroup), name_now) {
        (Ok(ours), Ok(named)) => (ours, named),
        (_, Err(Errno::ENOENT | Errno::ENODEV)) => return Ok(()),
        (Err(errno), _) | (_, Err(errno)) => return Err(errno),
    };
    if (ours.st_dev, ours.st_ino) != (named.st_dev, named.st_ino) {
        return Ok(());
    }
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::stand_in::StandIn;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn a_tree_goes_children_first_and_twice_is_fine() {
        let stand_in = StandIn::new(&[]);
        let tree = stand_in.cgroup.ensure_child("tree").unwrap();
        for path in ["a/b/c", "a/d", "e"] {
            tree.ensure_path(path).unwrap();
        }
        tree.remove_tree(soon()).unwrap();
        assert!(!tree.path().exists());
        tree.remove_tree(soon()).unwrap();
        stand_in.cgroup.remove_child("tree", soon()).unwrap();
    }

    #[test]
    fn only_an_empty_one_goes_without_force() {
        let stand_in = StandIn::new(&[]);
        let tree = stand_in.cgroup.ensure_child("tree").unwrap();
        let below = tree.create_child("below").unwrap();
        assert!(!tree.remove_if_empty().unwrap());
        assert!(below.remove_if_empty().unwrap());
        assert!(tree.remove_if_empty().unwrap());
        assert!(tree.remove_if_empty().unwrap(), "twice is fine");
    }

    #[test]
    fn depth_costs_no_fds_and_no_stack() {
        let stand_in = StandIn::new(&[]);
        let mut deepest = stand_in.cgroup.ensure_child("tree").unwrap();
        // Deeper than the usual limit of 1024 open files.
        for _ in 0..1500 {
            deepest = deepest.create_child("d").unwrap();
        }
        stand_in.cgroup.remove_child("tree", soon()).unwrap();
        assert!(stand_in.cgroup.children().unwrap().is_empty());
    }

    #[test]
    fn a_namesake_created_later_is_left_alone() {
        let stand_in = StandIn::new(&[]);
        let old = stand_in.cgroup.ensure_child("x").unwrap();
        fs::remove_dir(old.path()).unwrap();
        let new = stand_in.cgroup.ensure_child("x").unwrap();
        // The file system may give the new directory the old inode number; then they cannot be told apart.
        if fstat(&old).unwrap().st_ino != fstat(&new).unwrap().st_ino {
            old.remove_tree(soon()).unwrap();
            assert!(new.path().exists());
        }
    }

    #[test]
    fn what_cannot_go_is_named() {
        let stand_in = StandIn::new(&[]);
        let tree = stand_in.cgroup.ensure_path("tree/a").unwrap();
        fs::write(tree.path().join("file"), "").unwrap();
        let error = stand_in.cgroup.remove_child("tree", soon()).unwrap_err();
        assert!(error.to_string().ends_with("tree/a"), "{error}");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTEMPTY));
    }

    #[test]
    fn survivors_end_at_the_deadline() {
        let stand_in = StandIn::new(&[("cgroup.kill", ""), ("cgroup.events", "populated 1\n")]);
        let error = stand_in.cgroup.remove_tree(soon()).unwrap_err();
        assert!(matches!(error, Error::TimedOut { state: "populated 0", .. }), "{error}");
        assert_eq!(stand_in.content("cgroup.kill"), "1");
    }
}
