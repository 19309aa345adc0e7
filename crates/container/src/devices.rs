//! Devices of a container: which it may open, and those of the host that a privileged one gets.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::OnceLock;

use podrun_cgroups::Cgroup;
use podrun_cgroups::devices::{CONTAINER_DEVICES, DeviceFilter};
use podrun_sandbox::protocol::DeviceNode;

use crate::PrepareError;

/// Directories of /dev that a container has its own of.
const OWN: [&str; 4] = ["pts", "shm", "mqueue", "fd"];

/// Restricts the cgroup to the usual devices: null, zero, full, random, urandom, tty, ptmx and terminals. The filter
/// stays with the cgroup when this process ends.
pub(crate) fn restrict(cgroup: &Cgroup) -> podrun_cgroups::Result<()> {
    // The program is the same for all containers, and the kernel checks it for a while when it is loaded.
    static FILTER: OnceLock<DeviceFilter> = OnceLock::new();
    let filter = match FILTER.get() {
        Some(filter) => filter,
        None => {
            let loaded = DeviceFilter::load(&CONTAINER_DEVICES)?;
            FILTER.get_or_init(|| loaded)
        }
    };
    filter.attach(cgroup)
}

/// Returns all device nodes below the host's /dev.
pub(crate) fn of_host() -> Result<Vec<DeviceNode>, PrepareError> {
    let root = Path::new("/dev");
    let mut nodes = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            // Devices come and go.
            Err(_) if directory != root => continue,
            Err(error) => return Err(PrepareError::file("read", directory)(error)),
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let (path, kind) = (entry.path(), metadata.file_type());
            let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
            if kind.is_dir() && !OWN.contains(&name) {
                pending.push(path);
            } else if (kind.is_char_device() || kind.is_block_device()) && !matches!(name, "console" | "ptmx")
            {
                nodes.push(DeviceNode {
                    path: name.to_owned(),
                    mode: metadata.mode(),
                    rdev: metadata.rdev(),
                    uid: metadata.uid(),
                    gid: metadata.gid(),
                });
            }
        }
    }
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(nodes)
}
