//! Debian's kernel: the image, and modules in the order in which they load.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::debian::{self, Suite};
use crate::process::{Context as _, Failure, Result, command, run};

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    /// The host's `lib/modules/VERSION`.
    pub(crate) modules: PathBuf,
    dependencies: BTreeMap<String, Vec<String>>,
}

impl Kernel {
    /// Opens the kernel in `dir`, after fetching it if there is none; remove `dir` for a newer one.
    pub(crate) fn prepare(suite: Suite, dir: &Path) -> Result<Self> {
        // depmod is needed here, and the guest's kernel loads modules with the host's modprobe.
        if debian::find_program("modprobe").is_none() {
            debian::install(&["kmod"])?;
        }
        if find(&dir.join("boot"), "vmlinuz-").is_none() {
            debian::unpack_kernel(suite, dir)?;
        }
        let missing =
            |what: &str| Failure::new(format!("no {what} in {}: remove it and try again", dir.display()));
        let image = find(&dir.join("boot"), "vmlinuz-").ok_or_else(|| missing("boot/vmlinuz"))?;
        // Newer packages follow the merged /usr, which depmod does not look into by itself.
        if !dir.join("lib").exists() {
            symlink("usr/lib", dir.join("lib")).context(dir.join("lib").display())?;
        }
        let modules = find(&dir.join("lib/modules"), "").ok_or_else(|| missing("lib/modules"))?;
        let list = modules.join("modules.dep");
        if !list.exists() {
            depmod(dir, &modules)?;
        }
        let text = fs::read_to_string(&list).context(list.display())?;
        Ok(Self { image, modules, dependencies: parse_dependencies(&text) })
    }

    /// Returns the files of these modules and of what they need, needed ones first.
    ///
    /// A name that the kernel has no module for is built in, and left out.
    pub(crate) fn load_order(&self, names: &[&str]) -> Vec<PathBuf> {
        load_order(&self.dependencies, names).into_iter().map(|path| self.modules.join(path)).collect()
    }
}

/// The package's own scripts would do this when it is installed.
fn depmod(dir: &Path, modules: &Path) -> Result<()> {
    let depmod = debian::find_program("depmod").ok_or_else(|| Failure::usage("kmod's depmod is needed"))?;
    let version = modules.file_name().expect("it was found by its name");
    run(command(depmod).arg("-b").arg(dir).arg(version))
}

fn find(dir: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?;
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    entries.filter_map(|entry| Some(entry.ok()?.path())).find(named)
}

/// Parses modules.dep: `kernel/fs/overlayfs/overlay.ko.xz: other.ko.xz`.
fn parse_dependencies(text: &str) -> BTreeMap<String, Vec<String>> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(file, needs)| (file.to_owned(), needs.split_whitespace().map(str::to_owned).collect()))
        .collect()
}

fn load_order(dependencies: &BTreeMap<String, Vec<String>>, names: &[&str]) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for name in names {
        let Some((file, needs)) = dependencies.iter().find(|(file, _)| module_name(file) == *name) else {
            continue;
        };
        // depmod lists everything below, the most basic last.
        for file in needs.iter().rev().chain([file]) {
            if !order.contains(file) {
                order.push(file.clone());
            }
        }
    }
    order
}

fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_modules_come_first_and_once() {
        let dependencies = parse_dependencies(
            "fs/9p/9p.ko.xz: net/9p/9pnet.ko.xz fs/netfs.ko.xz\n\
             net/9p/9pnet.ko.xz:\n\
             net/9p/9pnet_virtio.ko.xz: net/9p/9pnet.ko.xz drivers/virtio-ring.ko.xz\n\
             fs/netfs.ko.xz:\n\
             drivers/virtio-ring.ko.xz:\n",
        );
        let order = load_order(&dependencies, &["9pnet_virtio", "9p", "built_in", "virtio_ring"]);
        let names: Vec<String> = order.iter().map(|file| module_name(file)).collect();
        assert_eq!(names, ["virtio_ring", "9pnet", "9pnet_virtio", "netfs", "9p"]);
    }
}
