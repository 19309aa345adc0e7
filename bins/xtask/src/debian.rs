//! Gets what the tasks need from Debian: programs installed, a kernel only unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Context as _, Failure, Result, capture, command, run};

/// Another apt may be at work; waiting is kinder than failing.
const LOCK: &str = "DPkg::Lock::Timeout=600";

/// Returns where a program is, looking into the directories of root as well.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Returns a busybox that needs no libraries.
pub(crate) fn find_static_busybox() -> Option<PathBuf> {
    let path = find_program("busybox")?;
    let bytes = fs::read(&path).ok()?;
    let interpreter = b"/ld-linux";
    let is_dynamic = bytes.windows(interpreter.len()).any(|window| window == interpreter);
    (!is_dynamic).then_some(path)
}

/// Installs a static busybox unless there is one, and returns its path.
pub(crate) fn busybox() -> Result<PathBuf> {
    if find_static_busybox().is_none() {
        install(&["busybox-static"])?;
    }
    find_static_busybox().ok_or_else(|| Failure::usage("busybox-static is installed but not in PATH"))
}

/// Installs those of the packages whose program is not here.
pub(crate) fn ensure(programs: &[(&str, &str)]) -> Result<()> {
    let absent = programs.iter().filter(|(program, _)| find_program(program).is_none());
    let packages: Vec<&str> = absent.map(|(_, package)| *package).collect();
    if packages.is_empty() { Ok(()) } else { install(&packages) }
}

/// Installs packages with apt-get.
///
/// A machine without apt, or a user who may not use it, is told what is needed.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let wanted = packages.join(" ");
    let Some(apt) = find_program("apt-get") else {
        return Err(Failure::usage(format!(
            "this machine has no apt-get; install what Debian calls: {wanted}"
        )));
    };
    let install = |packages: &[&str]| {
        let mut command = quiet(&apt);
        run(command.args(["-o", LOCK, "install", "-y", "--no-install-recommends"]).args(packages))
    };
    if install(packages).is_ok() {
        return Ok(());
    }
    // The lists may be absent, as in container images, or too old.
    run(quiet(&apt).args(["-o", LOCK, "update"]))
        .and_then(|()| install(packages))
        .map_err(|failure| Failure::usage(format!("{}; install by hand: {wanted}", failure.message)))
}

fn quiet(apt: &Path) -> Command {
    let mut command = command(apt);
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
    // apt's chatter belongs beside ours, not into the output of the task.
    command.stdout(std::io::stderr());
    command
}

/// Where a kernel comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Newer than the release, so that calls of young kernels are tested.
    Backports,
    /// The release's own.
    Stable,
}

impl Suite {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Backports => "backports",
            Self::Stable => "stable",
        }
    }
}

/// Downloads Debian's kernel package and unpacks it into `dir`; nothing is installed.
///
/// The lists of packages are kept in `dir` too, so that the host's own apt is left as it is.
pub(crate) fn unpack_kernel(suite: Suite, dir: &Path) -> Result<()> {
    let apt_get = find_program("apt-get").ok_or_else(no_apt)?;
    let apt_cache = find_program("apt-cache").ok_or_else(no_apt)?;
    let dpkg = find_program("dpkg").ok_or_else(no_apt)?;
    let release = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let codename = codename(&release).ok_or_else(no_apt)?;

    let lists = dir.join("apt/lists");
    fs::create_dir_all(lists.join("partial")).context(lists.display())?;
    let list = dir.join("apt/sources.list");
    fs::write(&list, sources(suite, codename)).context(list.display())?;
    let options = [
        format!("Dir::Etc::SourceList={}", list.display()),
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        format!("Dir::State::Lists={}", lists.display()),
        "Dir::Cache::PkgCache=".to_owned(),
        "Dir::Cache::SrcPkgCache=".to_owned(),
        // Root's downloads are otherwise done as a user who may not write here.
        "APT::Sandbox::User=root".to_owned(),
    ];
    let with_options = |program: &Path| {
        let mut command = command(program);
        command.args(options.iter().flat_map(|option| ["-o", option]));
        command
    };
    run(with_options(&apt_get).args(["-qq", "update"]).stdout(std::io::stderr()))?;
    let depends = capture(with_options(&apt_cache).args(["depends", "linux-image-amd64"]))?;
    let package = versioned_package(&depends).ok_or_else(|| {
        Failure::new(format!("linux-image-amd64 of {codename} names no kernel:\n{depends}"))
    })?;
    run(with_options(&apt_get)
        .args(["-qq", "download", package])
        .current_dir(dir)
        .stdout(std::io::stderr()))?;
    let deb = fs::read_dir(dir)
        .context(dir.display())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| Failure::new(format!("apt-get download left no package in {}", dir.display())))?;
    run(command(dpkg).arg("-x").arg(&deb).arg(dir))?;
    fs::remove_file(&deb).context(deb.display())
}

fn no_apt() -> Failure {
    Failure::usage(
        "the virtual machine boots Debian's kernel package, which needs apt-get, apt-cache and dpkg \
         of a Debian release; elsewhere run `cargo xtask test --no-vm`",
    )
}

fn codename(os_release: &str) -> Option<&str> {
    let debian = os_release.lines().any(|line| line.trim_matches('"') == "ID=debian");
    let line = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    debian.then(|| line.trim_matches('"'))
}

fn sources(suite: Suite, codename: &str) -> String {
    const KEY: &str = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
    match suite {
        Suite::Backports => format!("deb {KEY} http://deb.debian.org/debian {codename}-backports main\n"),
        Suite::Stable => format!("deb {KEY} http://deb.debian.org/debian {codename} main\n"),
    }
}

/// Returns the real package that the meta-package depends on.
fn versioned_package(depends: &str) -> Option<&str> {
    let mut names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.find(|name| name.starts_with("linux-image-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versioned_kernel_is_found_in_the_dependencies() {
        let text = "linux-image-amd64\n  Depends: linux-image-6.12.95+deb12-amd64\n";
        assert_eq!(versioned_package(text), Some("linux-image-6.12.95+deb12-amd64"));
        assert_eq!(versioned_package("linux-image-amd64\n"), None);
    }

    #[test]
    fn only_debian_has_a_usable_codename() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n"), Some("bookworm"));
        assert_eq!(codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(codename("ID=debian\n"), None);
    }
}
