//! Asking a credential helper: `docker-credential-NAME get`, with the registry on its standard input.
//!
//! This is the one program of the host that podrun can be told to execute. It is off by default: see
//! `run-credential-helpers` in [`super::super::settings`].

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;

use super::super::error::RegistryError;
use super::Credential;

/// How long a helper may take; some ask a service of a cloud.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;
/// What helpers print when they know nothing of a registry.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// An answer of a helper.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

pub(super) fn program(name: &str) -> String {
    format!("docker-credential-{name}")
}

/// Asks a helper for the credential of a registry; `None` if it has none. Blocks, at most for [`PATIENCE`].
pub(super) fn get(name: &str, registry: &str) -> Result<Option<Credential>, RegistryError> {
    let program = program(name);
    let failed = |reason: String| RegistryError::Helper { program: program.clone(), reason };
    // It becomes part of a program's name: no path, no option.
    if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) {
        return Err(failed("its name has characters that no helper has".to_owned()));
    }
    let (success, output) = run(&program, registry).map_err(|error| failed(error.to_string()))?;
    if !success {
        // Only the known text is repeated: others may quote a secret.
        let text = String::from_utf8_lossy(&output);
        return if text.contains(NOT_FOUND) { Ok(None) } else { Err(failed("it failed".to_owned())) };
    }
    let answer: Answer = serde_json::from_slice(&output)
        .map_err(|_| failed("its answer is not what helpers answer".to_owned()))?;
    Ok(match (answer.username.as_str(), answer.secret.as_str()) {
        (_, "") => None,
        ("<token>", _) => Some(Credential::IdentityToken(answer.secret)),
        _ => Some(Credential::Password { username: answer.username, password: answer.secret }),
    })
}

#[expect(clippy::disallowed_methods, reason = "only where the administrator has allowed helpers")]
fn run(program: &str, input: &str) -> std::io::Result<(bool, Vec<u8>)> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + PATIENCE;
    let mut read = || -> std::io::Result<Vec<u8>> {
        if let Some(mut stdin) = child.stdin.take() {
            // A host name fits into the pipe, so this does not block. A helper that does not read is no error.
            let _ = stdin.write_all(input.as_bytes());
        }
        let mut stdout = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        let mut output = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(std::os::fd::AsFd::as_fd(&stdout), PollFlags::POLLIN)], timeout) {
                Ok(0) => return Err(std::io::ErrorKind::TimedOut.into()),
                Err(Errno::EINTR) => continue,
                other => drop(other?),
            }
            match stdout.read(&mut buffer)? {
                0 => return Ok(output),
                read => output.extend_from_slice(&buffer[..read]),
            }
            if output.len() > MAX_ANSWER {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
        }
    };
    let output = read();
    if output.is_err() {
        // It may have ended by itself meanwhile.
        let _ = child.kill();
    }
    let status = child.wait()?;
    Ok((status.success(), output?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_is_a_plain_name() {
        for name in ["", "../x", "a/b", "a b", "x;y"] {
            assert!(get(name, "r.example").is_err(), "{name}");
        }
        let error = get("no-such-helper", "r.example").expect_err("absent").to_string();
        assert!(error.contains("docker-credential-no-such-helper"), "{error}");
    }

    #[test]
    fn what_a_helper_says_is_its_output_and_exit_code() {
        // `cat` gives back what it is given; its name is not a helper's, so this goes one level below.
        assert!(run("cat", "x").is_ok_and(|(success, _)| !success), "cat get reads a file that is not there");
        assert!(run("false", "x").is_ok_and(|(success, output)| !success && output.is_empty()));
        assert!(run("/nonexistent", "x").is_err());
    }
}
