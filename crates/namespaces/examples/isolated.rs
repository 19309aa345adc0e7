//! Runs a shell command as root of a user namespace, in new namespaces of all other kinds but cgroup. Needs no root.
//!
//! `cargo run --example isolated -- 'id; echo $$; hostname inner; hostname'`

#![expect(clippy::print_stdout, reason = "an example may print")]

use std::io::{stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use podrun_namespaces::{Command, IdMap, IdMaps, Kind, Kinds, SetGroups};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let script = std::env::args().nth(1).ok_or("usage: isolated SCRIPT")?;
    // Who we are says the owner of our own directory in /proc.
    let own = std::fs::metadata("/proc/self")?;
    let uid = IdMaps::new([IdMap::new(0, own.uid(), 1)])?;
    let gid = IdMaps::new([IdMap::new(0, own.gid(), 1)])?;

    let (stdin, stdout, stderr) = (stdin(), stdout(), stderr());
    let mut child = Command::new("/bin/sh")
        .args(["-c", &script])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .fds([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
        .namespaces(Kinds::ALL - Kind::Cgroup)
        .id_maps(uid, gid, SetGroups::Deny)
        .spawn()?;
    let status = child.wait()?;
    println!("the script {status}");
    Ok(())
}
