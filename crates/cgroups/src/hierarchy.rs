//! Where cgroup file systems are mounted.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::cgroup::Cgroup;
use crate::controllers::Controller;
use crate::error::{Error, Result};

/// The cgroup2 mount, and the cgroup v1 mounts beside it.
///
/// A host may have the unified hierarchy alone at `/sys/fs/cgroup`, or a hybrid of v1 mounts with the unified one
/// anywhere (`/sys/fs/cgroup/unified` by custom). Nothing is assumed: the answer is in
/// [proc_pid_mountinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where the cgroup2 file system is mounted.
    pub mount: PathBuf,
    /// Which cgroup is mounted there, as seen from this process's cgroup namespace: `/` unless part of it is
    /// bind-mounted.
    pub root: PathBuf,
    /// Whether the mount is read-only.
    pub read_only: bool,
    /// The cgroup v1 hierarchies that are mounted too; their controllers cannot be used here.
    pub v1: Vec<V1Mount>,
}

/// One mounted cgroup v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1Mount {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its controllers by their v1 names, empty for a named hierarchy such as `name=systemd`.
    pub controllers: Vec<String>,
}

impl V1Mount {
    /// Whether the hierarchy holds `controller`.
    pub fn holds(&self, controller: Controller) -> bool {
        self.controllers.iter().any(|name| name == controller.v1_name())
    }
}

impl Hierarchy {
    /// Returns the hierarchy that this process sees.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if `/proc` is not mounted, [`Error::NoCgroup2Mount`] if no cgroup2 file system is.
    pub fn find() -> Result<Self> {
        Self::from_mountinfo(&read_proc(Path::new("/proc/self/mountinfo"))?)
    }

    /// Returns the hierarchy described by the text of a `mountinfo` file.
    ///
    /// Of several cgroup2 mounts the best one counts: one of the whole hierarchy rather than of a part, a writable one
    /// rather than a read-only one, then the first. Lines that cannot be parsed are skipped.
    ///
    /// # Errors
    ///
    /// [`Error::NoCgroup2Mount`] if the text lists none.
    pub fn from_mountinfo(text: &str) -> Result<Self> {
        let mounts: Vec<Mount> = text.lines().filter_map(Mount::parse).collect();
        let best = mounts
            .iter()
            .filter(|mount| mount.kind == "cgroup2")
            .min_by_key(|mount| (mount.root != Path::new("/"), mount.read_only))
            .ok_or(Error::NoCgroup2Mount)?;
        let v1 = mounts.iter().filter(|mount| mount.kind == "cgroup").map(Mount::v1).collect();
        Ok(Self { mount: best.point.clone(), root: best.root.clone(), read_only: best.read_only, v1 })
    }

    /// Opens the cgroup at the mount point.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::open`].
    pub fn open_root(&self) -> Result<Cgroup> {
        Cgroup::open(&self.mount)
    }

    /// Opens the cgroup that this process is in.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::open`], and [`Error::NoCgroupOfProcess`] if it is outside of what is mounted.
    pub fn open_own(&self) -> Result<Cgroup> {
        self.open_of("self")
    }

    /// Opens the cgroup that process `pid` is in.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] with `ENOENT` if there is no such process, otherwise as [`Hierarchy::open_own`].
    pub fn open_of_process(&self, pid: u32) -> Result<Cgroup> {
        self.open_of(&pid.to_string())
    }

    fn open_of(&self, pid: &str) -> Result<Cgroup> {
        let text = read_proc(&Path::new("/proc").join(pid).join("cgroup"))?;
        let path = self
            .path_of_process(&text)
            .ok_or_else(|| Error::NoCgroupOfProcess { pid: pid.to_owned(), mount: self.mount.clone() })?;
        Cgroup::open(path)
    }

    /// Returns the directory of the cgroup that the text of a `/proc/PID/cgroup` file names, or nothing if that cgroup
    /// is outside of this mount.
    pub fn path_of_process(&self, proc_cgroup: &str) -> Option<PathBuf> {
        let path = proc_cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        // `/../x` is a cgroup outside of the cgroup namespace: joining it would climb out of the mount.
        if below.components().any(|part| part == std::path::Component::ParentDir) {
            return None;
        }
        Some(if below.as_os_str().is_empty() { self.mount.clone() } else { self.mount.join(below) })
    }
}

fn read_proc(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    // Mount points may be any bytes. One exotic mount must not hide the others.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn read_proc_cgroups() -> Result<String> {
    match read_proc(Path::new("/proc/cgroups")) {
        // Kernels without any v1 controller may do without the file.
        Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

/// One line of mountinfo: `31 23 0:28 ROOT MOUNT OPTIONS [FIELDS...] - KIND SOURCE SUPER_OPTIONS`.
struct Mount {
    root: PathBuf,
    point: PathBuf,
    kind: String,
    read_only: bool,
    super_options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (fields, file_system) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let root = unescape(fields.next()?);
        let point = unescape(fields.next()?);
        let options = fields.next()?;
        let mut file_system = file_system.split(' ');
        let kind = file_system.next()?.to_owned();
        let super_options = file_system.nth(1).unwrap_or_default().to_owned();
        let read_only = has_option(options, "ro") || has_option(&super_options, "ro");
        Some(Self { root, point, kind, read_only, super_options })
    }

    fn v1(&self) -> V1Mount {
        // What is neither a controller nor a named hierarchy is a mount option of the v1 file system.
        const OPTIONS: [&str; 6] = ["rw", "ro", "xattr", "noprefix", "clone_children", "all"];
        let controllers = self
            .super_options
            .split(',')
            .filter(|option| !option.is_empty() && !option.contains('=') && !OPTIONS.contains(option))
            .map(str::to_owned)
            .collect();
        V1Mount { mount: self.point.clone(), controllers }
    }
}

fn has_option(options: &str, wanted: &str) -> bool {
    options.split(',').any(|option| option == wanted)
}

/// Undoes the octal escapes of space, tab, newline and backslash in mountinfo.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|digits| {
            bytes[at] == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) && digits[0] < b'4'
        });
        if let Some(digits) = octal {
            out.push(digits.iter().fold(0, |value, digit| value * 8 + (digit - b'0')));
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    // `grep cgroup /proc/self/mountinfo` on a hybrid host (Linux 6.18).
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    // A Debian 12 host with systemd.
    const UNIFIED: &str = "\
24 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";

    #[test]
    fn unified_host() {
        let found = Hierarchy::from_mountinfo(UNIFIED).unwrap();
        assert_eq!(found.mount, Path::new("/sys/fs/cgroup"));
        assert!(found.v1.is_empty());
        assert!(!found.read_only);
    }

    #[test]
    fn hybrid_host_lists_who_holds_what() {
        let found = Hierarchy::from_mountinfo(HYBRID).unwrap();
        assert_eq!(found.mount, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(found.v1.len(), 3);
        assert!(found.v1[0].holds(Controller::Cpu));
        assert!(found.v1[1].holds(Controller::Io), "io is blkio in v1");
        assert!(found.v1[2].controllers.is_empty(), "a named hierarchy has none");
    }

    #[test]
    fn v1_only_host_is_a_typed_error() {
        let text = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        assert!(matches!(Hierarchy::from_mountinfo(text), Err(Error::NoCgroup2Mount)));
        assert!(matches!(Hierarchy::from_mountinfo(""), Err(Error::NoCgroup2Mount)));
    }

    #[test]
    fn whole_and_writable_mounts_win() {
        let text = "\
1 0 0:1 /a /part rw - cgroup2 cgroup2 rw
2 0 0:1 / /readonly ro - cgroup2 cgroup2 rw
3 0 0:1 / /mnt/my\\040cgroups rw - cgroup2 none rw
4 0 0:1 / /second rw - cgroup2 none rw
";
        let found = Hierarchy::from_mountinfo(text).unwrap();
        assert_eq!(found.mount, Path::new("/mnt/my cgroups"));
        assert_eq!(found.root, Path::new("/"));
    }

    #[test]
    fn escapes_are_undone_and_stray_backslashes_kept() {
        assert_eq!(unescape("/a\\011b\\134c"), Path::new("/a\tb\\c"));
        assert_eq!(unescape("/a\\9\\77"), Path::new("/a\\9\\77"));
        assert_eq!(unescape("/a\\777"), Path::new("/a\\777"), "777 is more than a byte");
    }

    #[test]
    fn path_of_process_stays_below_the_mount() {
        let mut found = Hierarchy::from_mountinfo(HYBRID).unwrap();
        let cases = [
            ("9:name=systemd:/x\n0::/\n", Some("/sys/fs/cgroup/unified")),
            ("0::/a/b\n", Some("/sys/fs/cgroup/unified/a/b")),
            ("0::/../b\n", None),
            ("1:cpu:/\n", None),
        ];
        for (text, path) in cases {
            assert_eq!(found.path_of_process(text).as_deref(), path.map(Path::new), "{text}");
        }
        found.root = "/a".into();
        assert_eq!(found.path_of_process("0::/a/b").as_deref(), Some(Path::new("/sys/fs/cgroup/unified/b")));
        assert_eq!(found.path_of_process("0::/c"), None);
    }
}
