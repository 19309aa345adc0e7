//! The last steps, which cannot be undone.

use std::ffi::{CString, c_char};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, fchown};
use podrun_plan::model::ContainerSetup;
use podrun_sandbox::protocol::{Failure, Stage};

use super::report::{self, Report};
use super::security::confine;
use super::user::User;
use super::{at, failure, text};
use crate::seccomp::Filter;
use crate::sys;

/// What a process exits with that could not become its program. Nobody looks at it: the report tells.
pub(super) const FAILED: i32 = 127;

/// Where a program is looked up if the container has no `PATH`: as runtimes do.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process that has everything but its final identity.
pub(super) struct Ready<'a> {
    pub(super) setup: &'a ContainerSetup,
    pub(super) user: User,
    pub(super) warnings: Vec<String>,
    /// The container's own null device.
    pub(super) null: OwnedFd,
    pub(super) filter: Option<&'a Filter>,
}

/// Executes the program, or reports why not and leaves.
pub(super) fn run(ready: Ready<'_>, report: File, outputs: [OwnedFd; 2]) -> ! {
    let Ready { setup, user, warnings, null, filter } = ready;
    // From here on numbers change their meaning: owners of descriptors are forgotten, never dropped.
    let (outputs, null) = (mem::ManuallyDrop::new(outputs), mem::ManuallyDrop::new(null));
    let [stdout, stderr] = outputs.each_ref().map(AsFd::as_fd);
    // SAFETY: all owners in this process are forgotten here or live in frames that are never returned to.
    let report = unsafe { sys::keep_only([null.as_fd(), stdout, stderr], report.into()) };
    let Ok(report) = report else { sys::exit_now(FAILED) };
    let mut report = mem::ManuallyDrop::new(File::from(report));

    let result = give_outputs(&user).and_then(|()| finish(setup, &user, filter)).and_then(|program| {
        report::write(&mut report, &Report::Ready { user: user.identity.clone(), warnings });
        Err(program.execute())
    });
    let Err(failure) = result.map(|never: std::convert::Infallible| match never {});
    report::write(&mut report, &Report::Failed(failure));
    sys::exit_now(FAILED)
}

/// Lets the program open its own outputs by name, as `/dev/stdout`: pipes belong to whoever has made them.
fn give_outputs(user: &User) -> Result<(), Failure> {
    let owner = Uid::from_raw(user.identity.uid);
    let give = |fd: BorrowedFd<'_>| fchown(fd, Some(owner), None).map_err(io::Error::from);
    let given = give(io::stdout().as_fd()).and_then(|()| give(io::stderr().as_fd()));
    at(Stage::Process, "give the outputs to the user", given)
}

fn finish(setup: &ContainerSetup, user: &User, filter: Option<&Filter>) -> Result<Program, Failure> {
    let program = Program::new(setup, user.home.as_deref())?;
    at(Stage::Process, "make a session", nix::unistd::setsid().map(drop).map_err(io::Error::from))?;
    umask(Mode::from_bits_truncate(0o022));
    confine(&setup.security, &user.identity, filter)?;
    sys::reset_signals();
    Ok(program)
}

/// A program with its arguments and environment, and the places where it may be.
struct Program {
    name: String,
    candidates: Vec<CString>,
    in_path: bool,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

impl Program {
    fn new(setup: &ContainerSetup, home: Option<&str>) -> Result<Self, Failure> {
        let strings = |texts: &[String]| -> Result<Vec<CString>, _> {
            texts.iter().map(|text| CString::new(text.as_str())).collect()
        };
        let nul = |_| failure(Stage::Exec, "prepare arguments and environment", &Errno::EINVAL.into());
        let argv = strings(&setup.args).map_err(nul)?;
        let mut envp = strings(&setup.env).map_err(nul)?;
        if variable(&setup.env, "HOME").is_none() {
            envp.push(CString::new(format!("HOME={}", home.unwrap_or("/"))).map_err(nul)?);
        }
        let Some(name) = setup.args.first().cloned() else {
            return Err(failure(Stage::Exec, "exec", &io::Error::other("no command specified")));
        };
        let path = variable(&setup.env, "PATH").unwrap_or(DEFAULT_PATH);
        let candidates = candidates(&name, path);
        let candidates = candidates.into_iter().map(CString::new).collect::<Result<_, _>>().map_err(nul)?;
        Ok(Self { in_path: !name.contains('/'), name, candidates, argv, envp })
    }

    /// Tries the candidates in order. Returns why none was executed: the first reason other than that it is not there.
    fn execute(self) -> Failure {
        let pointers = |texts: &[CString]| -> Vec<*const c_char> {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argv, envp) = (pointers(&self.argv), pointers(&self.envp));
        let mut found: Option<io::Error> = None;
        for candidate in &self.candidates {
            // SAFETY: the pointers are those of `argv` and `envp`, which live, with a null pointer at the end.
            let error = unsafe { sys::exec(candidate, &argv, &envp) };
            let missing = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR));
            if !missing || !self.in_path {
                found.get_or_insert(error);
            }
        }
        let message = match &found {
            Some(error) => text(error),
            None => "executable file not found in $PATH".to_owned(),
        };
        let errno = found.and_then(|error| error.raw_os_error()).unwrap_or(libc::ENOENT);
        Failure { stage: Stage::Exec, errno, message: format!("exec {:?}: {message}", self.name) }
    }
}

/// Returns the paths at which a program may be: a name with a slash is a path, any other is looked up. As in a shell, an
/// empty entry of `PATH` is the working directory.
fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    if name.is_empty() {
        return Vec::new();
    }
    let join = |directory: &str| match directory {
        "" => format!("./{name}"),
        directory => format!("{directory}/{name}"),
    };
    path.split(':').map(join).collect()
}

/// Returns the value of a variable; of several the last, as programs see it differently and Kubernetes has one.
fn variable<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter().rev().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_and_paths_are_not() {
        let table: [(&str, &str, &[&str]); 5] = [
            ("sh", "/usr/bin:/bin", &["/usr/bin/sh", "/bin/sh"]),
            ("/bin/sh", "/usr/bin", &["/bin/sh"]),
            ("./sh", "/usr/bin", &["./sh"]),
            ("sh", "/a::/b", &["/a/sh", "./sh", "/b/sh"]),
            ("", "/usr/bin", &[]),
        ];
        for (name, path, expected) in table {
            assert_eq!(candidates(name, path), expected, "{name:?} in {path:?}");
        }
    }

    #[test]
    fn variables_are_found_by_their_whole_name() {
        let env = ["PATHS=1", "PATH=/a", "HOME=", "PATH=/b"].map(str::to_owned);
        assert_eq!(variable(&env, "PATH"), Some("/b"));
        assert_eq!(variable(&env, "HOME"), Some(""));
        assert_eq!(variable(&env, "HOM"), None);
    }
}
