//! The init program, in a form that no container can write.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;

use crate::SandboxError;
use crate::mount::{self, Attributes};

/// Where the init program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitProgram {
    path: PathBuf,
}

impl InitProgram {
    /// Names the program: an absolute path of `podrun-init`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the program through a mount of its own that is read-only and in no mount table.
    ///
    /// `/proc/PID/exe` of the running program leads through that mount. A container that gets hold of it can therefore
    /// never open the host's file for writing, which was the way of CVE-2019-5736. Where the mount cannot be made, the
    /// program is copied into sealed memory.
    pub(crate) fn open(&self) -> Result<OwnedFd, SandboxError> {
        let failed = |source: io::Error| SandboxError::Program { path: self.path.clone(), source };
        let program = open(&self.path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        read_only_mount(&program).or_else(|_| sealed_copy(&self.path)).map_err(failed)
    }
}

fn read_only_mount(program: &OwnedFd) -> io::Result<OwnedFd> {
    let mount = mount::clone_tree(program.as_fd(), c"", false)?;
    mount::adjust(mount.as_fd(), Attributes::RDONLY, None, false)?;
    Ok(mount)
}

fn sealed_copy(path: &Path) -> io::Result<OwnedFd> {
    let mut program =
        File::from(nix::fcntl::openat(AT_FDCWD, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?);
    let memory = memfd_create(c"podrun-init", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut copy = File::from(memory);
    io::copy(&mut program, &mut copy)?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}
