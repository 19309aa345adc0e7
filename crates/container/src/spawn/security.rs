//! Giving up privileges, in the only order that works.

use std::io;

use podrun_plan::model::SecurityPlan;
use podrun_sandbox::protocol::{Failure, Identity, Stage};

use super::at;
use crate::seccomp::Filter;
use crate::sys;

/// Becomes the container's user with the container's capabilities, behind its system call filter.
pub(crate) fn confine(plan: &SecurityPlan, user: &Identity, filter: Option<&Filter>) -> Result<(), Failure> {
    let stage = |what: &str, result: io::Result<()>| at(Stage::Security, what, result);
    // A capability that we lack ourselves cannot be given on.
    let permitted = at(Stage::Security, "read capabilities", sys::permitted_capabilities())?;
    let capabilities = plan.capabilities & permitted;
    // While CAP_SETPCAP is there. The bounding set is what root can have after an exec.
    stage("limit capabilities", limit_bounding_set(plan.capabilities))?;
    if plan.no_new_privs {
        stage("set no_new_privs", nix::sys::prctl::set_no_new_privs().map_err(io::Error::from))?;
    }
    // Without no_new_privs it takes CAP_SYS_ADMIN, so before that is gone; what follows is in the profile.
    if let Some(filter) = filter {
        stage("install the system call filter", filter.install())?;
    }
    stage("set user and groups", sys::set_identity(user.uid, user.gid, &user.groups))?;
    // Another user's are gone with the change of ids. The inheritable and the ambient set are emptied for all.
    let capabilities = if user.uid == 0 { capabilities } else { 0 };
    stage("set capabilities", sys::set_capabilities(capabilities))
}

/// Becomes a user without any capability and without a way to one, behind the filter.
pub(super) fn renounce(user: &Identity, filter: &Filter) -> io::Result<()> {
    limit_bounding_set(0)?;
    nix::sys::prctl::set_no_new_privs()?;
    filter.install()?;
    sys::set_identity(user.uid, user.gid, &user.groups)?;
    sys::set_capabilities(0)
}

fn limit_bounding_set(keep: u64) -> io::Result<()> {
    for capability in 0..64 {
        if keep >> capability & 1 == 0 {
            match sys::drop_from_bounding_set(capability) {
                // Above the last one that the kernel knows.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
                result => result?,
            }
        }
    }
    Ok(())
}
