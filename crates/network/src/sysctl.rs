//! Kernel parameters of the network namespace in which the calling thread is.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};

const ROOT: &str = "/proc/sys/net";

/// The directory of the parameters. What it shows is that of whoever looks, not of whoever opened it.
pub(crate) struct Sysctls(OwnedFd);

impl Sysctls {
    pub(crate) fn open() -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(ROOT, flags, Mode::empty());
        dir.map(Self).map_err(|errno| Error::file("open", ROOT)(errno.into()))
    }

    /// Reads `ipv4/ip_forward`; none where there is no such parameter.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>> {
        let Some(mut file) = self.file(name, OFlag::O_RDONLY)? else { return Ok(None) };
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(Error::file("read", full(name)))?;
        Ok(Some(text.trim_end().to_owned()))
    }

    /// Writes a parameter unless it has the value already. One that is not there cannot be written: ENOENT.
    pub(crate) fn set(&self, name: &str, value: &str) -> Result<()> {
        if self.read(name)?.as_deref() == Some(value) {
            return Ok(());
        }
        let absent = || Error::file("write", full(name))(nix::errno::Errno::ENOENT.into());
        let mut file = self.file(name, OFlag::O_WRONLY)?.ok_or_else(absent)?;
        file.write_all(value.as_bytes()).map_err(Error::file("write", full(name)))
    }

    /// As [`Sysctls::set`]; a parameter that is not there is that of something which is not there either.
    pub(crate) fn set_if_present(&self, name: &str, value: &str) -> Result<()> {
        if self.read(name)?.is_some() { self.set(name, value) } else { Ok(()) }
    }

    /// Returns the names of the interfaces that have parameters of IPv6, `all` and `default` among them.
    pub(crate) fn ipv6_interfaces(&self) -> Result<Vec<String>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = match Dir::openat(&self.0, "ipv6/conf", flags, Mode::empty()) {
            // A kernel without IPv6.
            Err(nix::errno::Errno::ENOENT) => return Ok(Vec::new()),
            dir => dir.map_err(|errno| Error::file("list", full("ipv6/conf"))(errno.into()))?,
        };
        let names = dir.iter().filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned));
        Ok(names.filter(|name| !name.starts_with('.')).collect())
    }

    fn file(&self, name: &str, flags: OFlag) -> Result<Option<File>> {
        match openat(&self.0, Path::new(name), flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(nix::errno::Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Error::file("open", full(name))(errno.into())),
        }
    }
}

fn full(name: &str) -> std::path::PathBuf {
    Path::new(ROOT).join(name)
}
