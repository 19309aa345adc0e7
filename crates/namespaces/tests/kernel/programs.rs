//! Programs for the tests to start.

use std::fs::File;
use std::io::{PipeWriter, Read as _, pipe};
use std::os::fd::AsFd as _;

use podrun_namespaces::{Child, Command, ExitStatus};

/// Runs the command with stdout and stderr on a pipe; returns how it ended and what it wrote.
pub(crate) fn run(command: &Command<'_>) -> (ExitStatus, String) {
    let null = File::open("/dev/null").expect("/dev/null");
    let (mut reader, writer) = pipe().expect("a pipe");
    let mut command = command.clone();
    command.fds([null.as_fd(), writer.as_fd(), writer.as_fd()]);
    let mut child = command.spawn().expect("the program starts");
    drop(command);
    drop(writer);
    let mut output = String::new();
    reader.read_to_string(&mut output).expect("text");
    (child.wait().expect("our child"), output)
}

/// Returns a shell that runs `script`.
pub(crate) fn shell<'a>(script: &str) -> Command<'a> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).env("PATH", "/usr/bin:/bin");
    command
}

/// A process that waits until this is dropped, and is gone then.
pub(crate) struct Waiting {
    pub(crate) child: Child,
    _stdin: PipeWriter,
}

impl Waiting {
    /// Starts a shell that reads from a pipe, with what `change` sets.
    pub(crate) fn start(change: impl FnOnce(&mut Command<'_>)) -> Self {
        let null = File::options().read(true).write(true).open("/dev/null").expect("/dev/null");
        let (reader, writer) = pipe().expect("a pipe");
        let mut command = shell("read line");
        change(&mut command);
        command.fds([reader.as_fd(), null.as_fd(), null.as_fd()]);
        let child = command.spawn().expect("a shell starts");
        Self { child, _stdin: writer }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours and not yet reaped");
        self.child.wait().expect("it is our child");
    }
}
