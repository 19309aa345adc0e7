//! The supervisor's half of a start: everything that needs the host's tree.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use podrun_plan::model::{ContainerSetup, MountPlan, MountSource, SecurityPlan};
use podrun_sandbox::protocol::MAX_FDS;
use podrun_sandbox::{Prepared, Sandbox, apply_values, mount};

use crate::{PrepareError, devices, overlay, remove, volume};

/// Mounts whose descriptors fit into one message beside the others.
const MAX_MOUNTS: usize = MAX_FDS - 8;

/// Name of the file for a container's last words, in its attempt's directory.
pub(crate) const TERMINATION_LOG: &str = "termination-log";

/// Makes everything that a container's process will need, except for the process: its directory, its cgroup with the
/// values of the plan, its root file system and mounts, detached, and its log.
///
/// # Errors
///
/// What could not be made; [`PrepareError::reason`] tells how Kubernetes calls it. What had been made is removed.
pub fn prepare(setup: &ContainerSetup, sandbox: &Sandbox) -> Result<Prepared, PrepareError> {
    verify_non_root(&setup.security, &setup.image_user, sandbox.pod(), &setup.name)
        .map_err(|message| PrepareError::NonRoot { message })?;
    if setup.mounts.len() > MAX_MOUNTS {
        let (container, count) = (setup.name.clone(), setup.mounts.len());
        return Err(PrepareError::TooManyMounts { container, count, max: MAX_MOUNTS });
    }
    clear(setup, sandbox)?;
    make(setup, sandbox).inspect_err(|_| undo(setup, sandbox))
}

/// Removes what a supervisor has left that died between preparing this attempt and starting it. One that runs is not
/// touched.
fn clear(setup: &ContainerSetup, sandbox: &Sandbox) -> Result<(), PrepareError> {
    let failed = |source| PrepareError::Cgroup { container: setup.name.clone(), source };
    if let Some(cgroup) = sandbox.existing_cgroup(&setup.id).map_err(failed)? {
        if cgroup.events().map_err(|error| failed(error.into()))?.populated {
            return Err(PrepareError::Running { id: setup.id.clone() });
        }
        sandbox.release(&setup.id).map_err(failed)?;
    }
    remove(&setup.dir).map_err(|source| PrepareError::Clear { dir: setup.dir.clone(), source })
}

fn make(setup: &ContainerSetup, sandbox: &Sandbox) -> Result<Prepared, PrepareError> {
    make_directory(&setup.dir)?;
    if let Some(top) = setup.layers.last() {
        look_alike(&setup.dir.join("upper"), top)
            .map_err(|source| PrepareError::Rootfs { container: setup.name.clone(), source })?;
    }
    let rootfs = overlay::mount(&setup.layers, &setup.dir)
        .map_err(|source| PrepareError::Rootfs { container: setup.name.clone(), source })?;
    let mounts = setup.mounts.iter().map(|plan| make_mount(plan, setup)).collect::<Result<_, _>>()?;
    let host_shm = setup.shm_size.is_none().then(host_shm).transpose()?;
    let devices = if setup.security.privileged { devices::of_host()? } else { Vec::new() };
    let cgroup = make_cgroup(setup, sandbox)?;
    let log = open_log(&setup.log_path)?;
    Ok(Prepared { cgroup, rootfs, log, host_shm, mounts, devices })
}

/// Removes what a failed preparation has made. Its error is the one to report, and a directory that stays is found
/// again by its name.
fn undo(setup: &ContainerSetup, sandbox: &Sandbox) {
    drop(sandbox.release(&setup.id));
    drop(remove(&setup.dir));
}

/// Gives the upper directory mode and owner of the image's root, which it takes the place of.
fn look_alike(upper: &Path, top: &Path) -> io::Result<()> {
    let meta = fs::metadata(top)?;
    std::os::unix::fs::chown(upper, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(upper, Permissions::from_mode(meta.mode() & 0o7777))
}

/// Makes the attempt's directory with what the container keeps in it.
fn make_directory(dir: &Path) -> Result<(), PrepareError> {
    let private = |path: &Path| {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(PrepareError::file("create", path))
    };
    private(dir)?;
    private(&dir.join("work"))?;
    // The mode of the upper directory is that of the container's root.
    let upper = dir.join("upper");
    private(&upper)?;
    let mode = Permissions::from_mode(0o755);
    fs::set_permissions(&upper, mode).map_err(PrepareError::file("change the mode of", upper))?;
    let path = dir.join(TERMINATION_LOG);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .map_err(PrepareError::file("create", &path))?;
    // Whoever the container runs as may write its last words.
    file.set_permissions(Permissions::from_mode(0o666)).map_err(PrepareError::file("create", path))
}

fn make_cgroup(setup: &ContainerSetup, sandbox: &Sandbox) -> Result<OwnedFd, PrepareError> {
    let failed = |source| PrepareError::Cgroup { container: setup.name.clone(), source };
    let cgroup = sandbox.container_cgroup(&setup.id).map_err(failed)?;
    apply_values(&cgroup, &setup.cgroup.values).map_err(failed)?;
    if !setup.security.privileged {
        devices::restrict(&cgroup).map_err(|error| failed(error.into()))?;
    }
    cgroup.as_fd().try_clone_to_owned().map_err(PrepareError::file("open", cgroup.path()))
}

fn open_log(path: &Path) -> Result<OwnedFd, PrepareError> {
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(PrepareError::file("create", parent))?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(PrepareError::file("create", path))?;
    Ok(file.into())
}

/// Returns the detached mount of an image that is a volume: all of it, also where a sub path of it is wanted. A part of a
/// mount cannot be copied before it is attached somewhere, and only the container's process has a place for that.
fn mount_image(
    layers: &[PathBuf],
    plan: &MountPlan,
    setup: &ContainerSetup,
) -> Result<OwnedFd, PrepareError> {
    let failed = |source| PrepareError::ImageVolume {
        volume: plan.volume.clone().unwrap_or_default(),
        target: plan.target.clone(),
        source,
    };
    let empty = setup.dir.join("empty");
    DirBuilder::new().recursive(true).mode(0o700).create(&empty).map_err(failed)?;
    let mount = overlay::mount_read_only(layers, &empty).map_err(failed)?;
    volume::dress(mount.as_fd(), plan).map_err(failed)?;
    Ok(mount)
}

/// Returns the detached mount of a volume or file; none if it is a tmpfs of the sandbox, which only init can reach.
fn make_mount(plan: &MountPlan, setup: &ContainerSetup) -> Result<Option<OwnedFd>, PrepareError> {
    let path = match &plan.source {
        MountSource::Path(path) => path,
        MountSource::SandboxTmpfs(_) => return Ok(None),
        MountSource::Image { layers } => return mount_image(layers, plan, setup).map(Some),
    };
    let failed = |source| PrepareError::Mount { path: path.clone(), target: plan.target.clone(), source };
    let source = match open_source(path) {
        // As container runtimes do for a hostPath without a type.
        Err(error) if error.kind() == io::ErrorKind::NotFound && plan.volume.is_some() => {
            DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed)?;
            open_source(path)
        }
        source => source,
    };
    let mut source = source.map_err(failed)?;
    if let Some(sub_path) = &plan.sub_path {
        let volume = plan.volume.clone().unwrap_or_default();
        let failed = |source| PrepareError::SubPath { volume, container: setup.name.clone(), source };
        source = volume::sub_path(source.as_fd(), sub_path).map_err(failed)?;
    }
    volume::detach(source.as_fd(), plan).map(Some).map_err(failed)
}

fn open_source(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn host_shm() -> Result<OwnedFd, PrepareError> {
    let path = Path::new("/dev/shm");
    open_source(path)
        .and_then(|shm| mount::clone_tree(shm.as_fd(), c"", false))
        .map_err(PrepareError::file("open", path))
}

/// Checks `runAsNonRoot` against what is known before the image's files are looked at.
fn verify_non_root(
    security: &SecurityPlan,
    image_user: &str,
    pod: &str,
    container: &str,
) -> Result<(), String> {
    if !security.run_as_non_root {
        return Ok(());
    }
    let of = format!("(pod: {pod:?}, container: {container})");
    match security.run_as_user {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {of}")),
        Some(_) => return Ok(()),
        None => {}
    }
    let user = image_user.split(':').next().unwrap_or_default();
    match user.parse::<i64>() {
        Ok(0) => Err(format!("container has runAsNonRoot and image will run as root {of}")),
        Ok(_) => Ok(()),
        Err(_) if user.is_empty() => {
            Err(format!("container has runAsNonRoot and image will run as root {of}"))
        }
        Err(_) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {of}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_root_is_verified_with_the_words_of_the_kubelet() {
        let root = "container has runAsNonRoot and image will run as root (pod: \"p_ns(u)\", container: c)";
        let user = "container's runAsUser breaks non-root policy (pod: \"p_ns(u)\", container: c)";
        let name = "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root \
                    (pod: \"p_ns(u)\", container: c)";
        let table = [
            (None, "", Some(root)),
            (None, "0", Some(root)),
            (None, "0:1000", Some(root)),
            (None, "00", Some(root)),
            (None, "1000", None),
            (None, "1000:0", None),
            (None, "app", Some(name)),
            (None, "app:staff", Some(name)),
            (Some(0), "1000", Some(user)),
            (Some(1), "0", None),
        ];
        for (run_as_user, image_user, expected) in table {
            let security = SecurityPlan {
                run_as_user,
                run_as_group: None,
                run_as_non_root: true,
                supplemental_groups: Vec::new(),
                merge_image_groups: true,
                capabilities: 0,
                no_new_privs: false,
                seccomp: false,
                privileged: false,
                read_only_rootfs: false,
                masked_paths: Vec::new(),
                read_only_paths: Vec::new(),
                rlimits: Vec::new(),
            };
            let result = verify_non_root(&security, image_user, "p_ns(u)", "c");
            assert_eq!(result.err().as_deref(), expected, "{run_as_user:?} {image_user:?}");
            let allowed = SecurityPlan { run_as_non_root: false, ..security };
            assert_eq!(verify_non_root(&allowed, image_user, "p_ns(u)", "c"), Ok(()));
        }
    }
}
