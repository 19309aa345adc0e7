//! Lists the namespaces of a process, and which of them this program shares.
//!
//! `cargo run --example list -- 1`

#![expect(clippy::print_stdout, reason = "an example may print")]

use std::os::fd::AsFd;

use podrun_namespaces::{Kind, Namespace, PidFd};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pid = std::env::args().nth(1).ok_or("usage: list PID")?.parse()?;
    let process = PidFd::open(pid)?;
    for kind in Kind::ALL {
        let theirs = Namespace::of_process(process.as_fd(), kind)?;
        let ours = Namespace::of_current(kind)?;
        let shared = if theirs.id() == ours.id() { "shared" } else { "its own" };
        println!("{:<8}{:<24}{shared}", kind, theirs.id().to_string());
    }
    Ok(())
}
