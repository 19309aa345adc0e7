//! The parent of a command, which waits for it and for everything that it leaves behind.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use podrun_sandbox::protocol::{ExecReport, Failure, Stage};

use super::tell;
use crate::spawn::program::Program;
use crate::spawn::{at, failure};
use crate::sys;

/// What a process exits with that could not become its program. Nobody looks at it: the report tells.
pub(super) const FAILED: i32 = 127;

/// No failure; not an error number.
const NONE: i32 = -1;
/// The program was looked for in vain; not an error number.
const NOT_FOUND: i32 = -2;

/// What the command's process is given, and where it leaves word. It runs in the memory of its parent, which is halted.
struct Launch<'a> {
    program: &'a Program,
    has_terminal: bool,
    /// Why it could not get a session and a terminal.
    session: AtomicI32,
    /// Why the program could not be executed.
    execution: AtomicI32,
}

/// Starts the command and waits until nothing is left of it.
pub(super) fn run(program: &Program, has_terminal: bool, report: &mut File) -> ! {
    let Err(failure) = start(program, has_terminal).and_then(|command| {
        tell(report, &ExecReport::Started);
        // A reader of what the command writes waits for the last one who could.
        at(Stage::Process, "close the standard streams", sys::close_stdio())?;
        mind(command, report)
    });
    tell(report, &ExecReport::Failed(failure));
    sys::exit_now(FAILED)
}

fn start(program: &Program, has_terminal: bool) -> Result<i32, Failure> {
    // What is orphaned below comes here, and not to the container's process 1.
    let adopted = nix::sys::prctl::set_child_subreaper(true).map_err(io::Error::from);
    at(Stage::Process, "become a subreaper", adopted)?;
    let (session, execution) = (AtomicI32::new(NONE), AtomicI32::new(NONE));
    // From here on it must not die, or the command would be reaped by nobody.
    sys::block_signals(None);
    let launch = Launch { program, has_terminal, session, execution };
    // SAFETY: `become_command` makes system calls only, and ends by execve or _exit; `launch` outlives the call.
    let cloned = unsafe { sys::vfork(become_command, (&raw const launch).cast_mut().cast()) };
    let command = at(Stage::Clone, "clone the process", cloned)?;
    let failed = match (launch.session.into_inner(), launch.execution.into_inner()) {
        (NONE, NONE) => return Ok(command),
        (NONE, NOT_FOUND) => program.failure(None),
        (NONE, errno) => program.failure(Some(errno)),
        (errno, _) => failure(Stage::Process, "make a session", &Errno::from_raw(errno).into()),
    };
    // Reaped by `mind` otherwise; it has nothing to tell.
    drop(sys::reap_next());
    Err(failed)
}

/// Runs on a stack of its own in the parent's memory, while the parent waits.
extern "C" fn become_command(launch: *mut c_void) -> c_int {
    // SAFETY: `start` passes a pointer to its `Launch`, which lives until the parent goes on.
    let launch = unsafe { &*launch.cast::<Launch<'_>>() };
    if let Err(errno) = sys::new_session(launch.has_terminal) {
        launch.session.store(errno, Ordering::Relaxed);
        return FAILED;
    }
    sys::unblock_signals();
    let errno = launch.program.execute().unwrap_or(NOT_FOUND);
    launch.execution.store(errno, Ordering::Relaxed);
    FAILED
}

/// Reaps everything, and tells the end of the command. Returns never: it ends with the last one.
fn mind(command: i32, report: &mut File) -> Result<std::convert::Infallible, Failure> {
    loop {
        match sys::reap_next() {
            Ok((pid, status)) if pid == command => tell(report, &ExecReport::Exited(status)),
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => sys::exit_now(0),
            Err(error) => return Err(failure(Stage::Process, "wait for the command", &error)),
        }
    }
}
