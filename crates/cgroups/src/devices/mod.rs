//! Which devices the processes of a cgroup may use.
//!
//! cgroup v2 has no device controller. Instead, a BPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE` is attached to the
//! cgroup and asked at every open(2) and mknod(2) of a device node, for the cgroup and all its descendants.
//!
//! ```no_run
//! use podrun_cgroups::devices::{CONTAINER_DEVICES, DeviceFilter};
//! use podrun_cgroups::Cgroup;
//!
//! # fn main() -> podrun_cgroups::Result<()> {
//! let cgroup = Cgroup::open("/sys/fs/cgroup/example")?;
//! DeviceFilter::load(&CONTAINER_DEVICES)?.attach(&cgroup)?;
//! # Ok(())
//! # }
//! ```

mod filter;
mod program;
mod rule;

pub use filter::{DeviceFilter, attached};
pub use program::{Instruction, assemble};
pub use rule::{CONTAINER_DEVICES, DeviceAccess, DeviceKind, DeviceRule, MKNOD_ANYTHING};
