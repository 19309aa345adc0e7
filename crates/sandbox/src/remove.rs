//! Ending a sandbox and removing what it has left, by its names alone.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use podrun_cgroups::Cgroup;
use podrun_plan::model::SandboxPlan;

use crate::create::validate;
use crate::{SandboxError, tree};

/// How long killed processes may take to be gone. Only uninterruptible sleep takes longer than an instant.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Init's socket, and what it said in a panic.
pub(crate) const SOCKET: &str = "init.sock";
pub(crate) const LAST_WORDS: &str = "init.log";
const LIVE: [&str; 2] = [SOCKET, LAST_WORDS];

/// Directories of the Pod's data that live as long as the Pod. The rest is records, which their writer removes.
const DATA: [&str; 3] = ["containers", "volumes", "files"];

/// Kills everything that runs in the sandbox, init included, and removes its cgroups and live state. Volumes and the
/// containers' files stay, except for volumes in memory. May be repeated, and needs nothing but names.
///
/// # Errors
///
/// All that could not be removed.
pub fn stop(plan: &SandboxPlan, cgroup_mount: &Path) -> Result<(), Vec<SandboxError>> {
    validate(plan).map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    errors.extend(remove_cgroup(plan, cgroup_mount).err());
    errors.extend(remove_live_state(plan).err());
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Does the same as [`stop`], and deletes the Pod's volumes, its containers' file systems and its files. Symbolic links
/// are not followed and mounts are not entered. Logs and records stay.
///
/// # Errors
///
/// All that could not be removed.
pub fn remove(plan: &SandboxPlan, cgroup_mount: &Path) -> Result<(), Vec<SandboxError>> {
    let mut errors = stop(plan, cgroup_mount).err().unwrap_or_default();
    // With processes still about, their files are not deleted under their feet.
    if errors.is_empty() {
        errors.extend(DATA.iter().filter_map(|name| tree::remove(&plan.data_dir.join(name)).err()));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Deletes a directory of containers' making, or a file, with everything below it. A path that does not exist is
/// success. Symbolic links are not followed and mounts are not entered.
///
/// # Errors
///
/// [`SandboxError::File`] for the first entry that stays, after everything else is gone.
pub fn remove_tree(path: &Path) -> Result<(), SandboxError> {
    tree::remove(path)
}

fn remove_cgroup(plan: &SandboxPlan, mount: &Path) -> Result<(), SandboxError> {
    match Cgroup::open(mount.join(&plan.cgroup.path)) {
        Err(error) if error.is_gone() => {}
        cgroup => cgroup?.remove_tree(Instant::now() + PATIENCE)?,
    }
    remove_empty_parents(plan, mount);
    Ok(())
}

/// Removes what this crate has put into the Pod's run directory, and the directory unless somebody else keeps something
/// there.
fn remove_live_state(plan: &SandboxPlan) -> Result<(), SandboxError> {
    for name in LIVE {
        tree::remove(&plan.run_dir.join(name))?;
    }
    match std::fs::remove_dir(&plan.run_dir) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(SandboxError::file("remove", &plan.run_dir)(error))
        }
        _ => Ok(()),
    }
}

/// Removes the cgroups above the Pod's that no other Pod uses: with the last Pod goes the last trace.
///
/// The kernel refuses to remove one that has children or processes, which is how use is told. Whoever makes a Pod's
/// cgroup at this moment makes its parents again.
fn remove_empty_parents(plan: &SandboxPlan, mount: &Path) {
    for parent in Path::new(&plan.cgroup.path).ancestors().skip(1).filter(|path| !path.as_os_str().is_empty())
    {
        if std::fs::remove_dir(mount.join(parent)).is_err() {
            return;
        }
    }
}
