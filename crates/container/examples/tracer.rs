//! A hostile container of this crate's tests: takes hold of every process that it can name, again and again, and prints
//! what it finds that it has not found before. Ends when `/tmp/enough` is there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

#[expect(clippy::print_stdout, reason = "what it finds is its purpose")]
fn main() {
    let mut known = BTreeSet::new();
    while !Path::new("/tmp/enough").exists() {
        for process in processes() {
            let mut found = looked_at(process);
            if let Some(caught) = caught(process) {
                found.extend(caught);
            }
            for line in found {
                if known.insert(line.clone()) {
                    println!("{line}");
                }
            }
        }
    }
}

/// Returns the processes of this pid namespace but this one.
fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    pids.filter(|pid| *pid != getpid())
}

/// What can be seen of a process without stopping it.
fn looked_at(process: Pid) -> Vec<String> {
    let root = format!("/proc/{process}/root");
    let mut names: Vec<String> = fs::read_dir(&root)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    vec![format!("root {}", names.join(" "))]
}

/// Stops a process as a debugger does and looks at what it may at that moment. None if it cannot be had.
fn caught(process: Pid) -> Option<Vec<String>> {
    ptrace::seize(process, Options::empty()).ok()?;
    // It fails if the process has gone, which the wait tells.
    let _ = ptrace::interrupt(process);
    // An error is that it has gone, and been reaped.
    let Ok(status) = waitpid(process, Some(WaitPidFlag::__WALL)) else { return None };
    if matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
        return None;
    }
    let mut found = looked_at(process);
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let fields = ["CapPrm", "CapEff", "CapBnd", "Seccomp", "NoNewPrivs"];
    found.extend(status.lines().filter_map(|line| {
        let (name, value) = line.split_once(":\t")?;
        fields.contains(&name).then(|| format!("{name} {value}"))
    }));
    let fds = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().filter_map(Result::ok);
    found.extend(fds.filter_map(|fd| {
        let target = fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned();
        Some(format!("fd {}", target.split(':').next().unwrap_or_default()))
    }));
    if let Some(memory) = readable_memory(process) {
        found.push(memory);
    }
    // It may have been killed meanwhile.
    let _ = ptrace::detach(process, None);
    Some(found)
}

/// Reads the first page of the program through its memory.
fn readable_memory(process: Pid) -> Option<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    let start = u64::from_str_radix(maps.split('-').next()?, 16).ok()?;
    let mut magic = [0; 4];
    File::open(format!("/proc/{process}/mem")).ok()?.read_exact_at(&mut magic, start).ok()?;
    (magic == *b"\x7fELF").then(|| "memory".to_owned())
}
