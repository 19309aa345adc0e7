//! The program of a process: where it may be, and what it is given.

use std::ffi::{CString, c_char};
use std::io;

use nix::errno::Errno;
use podrun_sandbox::protocol::{Failure, Stage};

use super::{failure, text};
use crate::sys;

/// Where a program is looked up if the container has no `PATH`: as runtimes do.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with its arguments and environment, and the places where it may be: all that its execution needs, so that
/// no memory is allocated then.
pub(crate) struct Program {
    name: String,
    in_path: bool,
    candidates: Vec<CString>,
    argv: Strings,
    envp: Strings,
}

/// Texts in the form that execve(2) wants.
struct Strings {
    /// What the pointers lead to.
    _texts: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    fn new(texts: Vec<CString>) -> Self {
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _texts: texts, pointers }
    }
}

impl Program {
    /// Puts a program together. `HOME` is added where the environment has none.
    ///
    /// # Errors
    ///
    /// A [`Failure`] of [`Stage::Exec`]: `EINVAL` for a NUL byte; no arguments at all.
    pub(crate) fn new(args: &[String], env: &[String], home: Option<&str>) -> Result<Self, Failure> {
        let strings = |texts: &[String]| -> Result<Vec<CString>, _> {
            texts.iter().map(|text| CString::new(text.as_str())).collect()
        };
        let nul = |_| failure(Stage::Exec, "prepare arguments and environment", &Errno::EINVAL.into());
        let argv = strings(args).map_err(nul)?;
        let mut envp = strings(env).map_err(nul)?;
        if variable(env, "HOME").is_none() {
            envp.push(CString::new(format!("HOME={}", home.unwrap_or("/"))).map_err(nul)?);
        }
        let Some(name) = args.first().cloned() else {
            return Err(failure(Stage::Exec, "exec", &io::Error::other("no command specified")));
        };
        let path = variable(env, "PATH").unwrap_or(DEFAULT_PATH);
        let candidates = candidates(&name, path);
        let candidates = candidates.into_iter().map(CString::new).collect::<Result<_, _>>().map_err(nul)?;
        let in_path = !name.contains('/');
        Ok(Self { name, in_path, candidates, argv: Strings::new(argv), envp: Strings::new(envp) })
    }

    /// Executes the first candidate that can be. Returns why none was: the first error number other than that it is not
    /// there, or none if the program is in no directory of `PATH`.
    ///
    /// Makes system calls only: the memory may be another process's.
    pub(crate) fn execute(&self) -> Option<i32> {
        let mut found = None;
        for candidate in &self.candidates {
            // SAFETY: the pointers are those of texts that live as long as this, with a null pointer at the end.
            let errno = unsafe { sys::exec(candidate, &self.argv.pointers, &self.envp.pointers) };
            let missing = matches!(errno, libc::ENOENT | libc::ENOTDIR);
            if !missing || !self.in_path {
                found.get_or_insert(errno);
            }
        }
        found
    }

    /// Tells what [`execute`](Self::execute) has returned.
    pub(crate) fn failure(&self, errno: Option<i32>) -> Failure {
        let message = match errno {
            Some(errno) => text(&io::Error::from_raw_os_error(errno)),
            None => "executable file not found in $PATH".to_owned(),
        };
        let message = format!("exec {:?}: {message}", self.name);
        Failure { stage: Stage::Exec, errno: errno.unwrap_or(libc::ENOENT), message }
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
pub(crate) fn variable<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
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
