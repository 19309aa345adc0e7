//! The last steps, which cannot be undone.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::stat::{Mode, umask};
use podrun_plan::model::ContainerSetup;
use podrun_sandbox::protocol::{Failure, Stage};

use super::birth::Birth;
use super::program::Program;
use super::report::{self, Report};
use super::security::confine;
use super::user::User;
use super::{at, process};
use crate::seccomp::Filter;
use crate::sys;

/// What a process exits with that could not become its program. Nobody looks at it: the report tells.
pub(super) const FAILED: i32 = 127;

/// A process that has everything but its final identity.
pub(super) struct Ready<'a> {
    pub(super) setup: &'a ContainerSetup,
    pub(super) user: User,
    pub(super) warnings: Vec<String>,
    /// The container's own null device.
    pub(super) null: OwnedFd,
    pub(super) filter: Option<&'a Filter>,
    /// For a helper that has to fork the process.
    pub(super) birth: Option<&'a Birth>,
}

/// Executes the program, or reports why not and leaves.
pub(super) fn run(ready: Ready<'_>, report: File, outputs: [OwnedFd; 2]) -> ! {
    let Ready { setup, user, warnings, null, filter, birth } = ready;
    // From here on numbers change their meaning: owners of descriptors are forgotten, never dropped.
    let (outputs, null) = (mem::ManuallyDrop::new(outputs), mem::ManuallyDrop::new(null));
    let [stdout, stderr] = outputs.each_ref().map(AsFd::as_fd);
    // SAFETY: all owners in this process are forgotten here or live in frames that are never returned to.
    let report = unsafe { sys::keep_only([null.as_fd(), stdout, stderr], report.into()) };
    let Ok(report) = report else { sys::exit_now(FAILED) };
    let mut report = mem::ManuallyDrop::new(File::from(report));

    let given = process::give_outputs([io::stdout().as_fd(), io::stderr().as_fd()], user.identity.uid);
    let result = given.and_then(|()| finish(setup, &user, filter)).and_then(|program| {
        let (user, home) = (user.identity.clone(), user.home.clone());
        report::write(&mut report, &Report::Ready { user, home, warnings });
        if let Some(birth) = birth {
            bear(birth)?;
        }
        at(Stage::Process, "make a session", nix::unistd::setsid().map(drop).map_err(io::Error::from))?;
        sys::reset_signals();
        Err(program.failure(program.execute()))
    });
    let Err(failure) = result.map(|never: std::convert::Infallible| match never {});
    report::write(&mut report, &Report::Failed(failure));
    sys::exit_now(FAILED)
}

fn finish(setup: &ContainerSetup, user: &User, filter: Option<&Filter>) -> Result<Program, Failure> {
    let program = Program::new(&setup.args, &setup.env, user.home.as_deref())?;
    umask(Mode::from_bits_truncate(0o022));
    confine(&setup.security, &user.identity, filter)?;
    Ok(program)
}

/// Goes on in a process that others can name, which has nothing left that its program will not have.
fn bear(birth: &Birth) -> Result<(), Failure> {
    // Another user's process may become inspectable for that user, as fs.suid_dumpable says.
    let hidden = nix::sys::prctl::set_dumpable(false).map_err(io::Error::from);
    at(Stage::Security, "forbid inspection", hidden)?;
    // SAFETY: this process has one thread, and both copies of it leave by exec or `_exit`.
    at(Stage::Clone, "fork the process", unsafe { birth.give() })
}
