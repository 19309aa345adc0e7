//! Device filters in the kernel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::program::assemble;
use super::rule::DeviceRule;
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::sys;

/// A loaded device filter.
///
/// Attached, it outlives this value and the process: it stays until it is detached or the cgroup is removed.
#[derive(Debug)]
#[doc(alias = "BPF_PROG_TYPE_CGROUP_DEVICE")]
pub struct DeviceFilter(OwnedFd);

impl AsFd for DeviceFilter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl DeviceFilter {
    /// Loads a filter that decides as `rules` say; see [`DeviceRule`] for their order.
    ///
    /// # Errors
    ///
    /// [`Error::LoadFilter`]: `EPERM` without `CAP_BPF` or `CAP_SYS_ADMIN`, `E2BIG` for thousands of rules, `ENOSYS` and
    /// `EINVAL` if the kernel has no such programs. See [bpf(2)](https://man7.org/linux/man-pages/man2/bpf.2.html).
    pub fn load(rules: &[DeviceRule]) -> Result<Self> {
        sys::load_device_program(&assemble(rules))
            .map(Self)
            .map_err(|source| Error::LoadFilter { rules: rules.len(), source })
    }

    /// Attaches the filter to `cgroup`, beside those that are there already: what one of them denies is denied.
    ///
    /// # Errors
    ///
    /// [`Error::Filter`]: `EPERM` if an ancestor has a filter that does not allow others below it, `E2BIG` if 64
    /// filters are attached, `EINVAL` if this one is.
    pub fn attach(&self, cgroup: &Cgroup) -> Result<()> {
        sys::attach_device_program(cgroup.as_fd(), self.0.as_fd()).map_err(failed("attach", cgroup))
    }

    /// Takes the filter off `cgroup`.
    ///
    /// # Errors
    ///
    /// [`Error::Filter`] with `ENOENT` if it is not attached.
    pub fn detach(&self, cgroup: &Cgroup) -> Result<()> {
        sys::detach_device_program(cgroup.as_fd(), self.0.as_fd()).map_err(failed("detach", cgroup))
    }
}

/// Returns the ids of the device filters that are attached to `cgroup` itself, so that whoever finds a cgroup can tell
/// whether it is filtered.
///
/// # Errors
///
/// [`Error::Filter`] with `EPERM` without `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`.
pub fn attached(cgroup: &Cgroup) -> Result<Vec<u32>> {
    sys::query_device_programs(cgroup.as_fd()).map_err(failed("list", cgroup))
}

fn failed(action: &'static str, cgroup: &Cgroup) -> impl FnOnce(std::io::Error) -> Error {
    let path = cgroup.path().to_owned();
    move |source| Error::Filter { action, path, source }
}
