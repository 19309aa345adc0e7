//! The few files of /proc that the test kit reads, parsed apart from reading.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of `/proc/PID/mountinfo`; see [proc_pid_mountinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    pub(crate) fs_type: String,
    pub(crate) line: String,
}

/// Parses mountinfo, ignoring lines it cannot read.
pub(crate) fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let point = unescape(left.split(' ').nth(4)?);
    let fs_type = right.split(' ').next()?.to_owned();
    Some(Mount { point, fs_type, line: line.to_owned() })
}

/// Undoes the kernel's `\040` style escapes of space, tab, newline and backslash.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\')
            .then(|| field.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = octal {
            out.push(byte);
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// Returns the mounts of this process's mount namespace.
pub(crate) fn mounts() -> Vec<Mount> {
    parse_mountinfo(&fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted"))
}

/// Returns where the cgroup2 hierarchy is mounted, if it is.
///
/// Hybrid hosts mount it at `/sys/fs/cgroup/unified`, so the place is never assumed.
pub fn cgroup2_mount() -> Option<PathBuf> {
    mounts().into_iter().find(|mount| mount.fs_type == "cgroup2").map(|mount| mount.point)
}

/// The part of `/proc/PID/stat` that tells processes apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    pub(crate) comm: String,
    pub(crate) state: char,
    pub(crate) parent: i32,
    pub(crate) session: i32,
    /// Ticks since boot; with the pid it names a process uniquely.
    pub(crate) start: u64,
}

/// Parses `/proc/PID/stat`; the command's name may itself hold spaces and parentheses.
pub(crate) fn parse_stat(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(" (")?;
    let (comm, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        pid: pid.parse().ok()?,
        comm: comm.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

/// Returns the stat of every process; those that end meanwhile are left out.
pub(crate) fn processes() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|entry| parse_stat(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect()
}

/// Returns the cgroup2 path of a process, as in the `0::` line of `/proc/PID/cgroup`.
pub(crate) fn cgroup_of(process: &Path) -> String {
    let text = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
}

/// Returns the names of the network links in `/proc/net/dev`.
pub(crate) fn parse_links(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_a_space_is_unescaped() {
        let line = r"36 35 98:0 / /mnt/a\040b\134c rw,noatime master:1 - overlay over rw,lowerdir=/x";
        let mounts = parse_mountinfo(line);
        assert_eq!(mounts[0].point, Path::new(r"/mnt/a b\c"));
        assert_eq!(mounts[0].fs_type, "overlay");
    }

    #[test]
    fn a_command_with_parentheses_is_read_whole() {
        let text =
            "42 (a) b (c) S 7 42 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1000 1 18446744073709551615";
        let stat = parse_stat(text).expect("a full line");
        assert_eq!((stat.pid, stat.comm.as_str(), stat.state), (42, "a) b (c", 'S'));
        assert_eq!((stat.parent, stat.session, stat.start), (7, 9, 777));
    }

    #[test]
    fn a_truncated_stat_is_refused() {
        assert_eq!(parse_stat("42 (sh) S 7 42"), None);
    }

    #[test]
    fn links_are_the_names_before_the_colon() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 0 0\n  eth0: 1 2\n";
        assert_eq!(parse_links(text), ["lo", "eth0"]);
    }
}
