//! Id maps of user namespaces.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::pidfd::pid_of;
use crate::{Error, Result, sys};

/// One line of `/proc/PID/uid_map` or `gid_map`: `length` ids from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdMap {
    /// The first id in the user namespace.
    pub inside: u32,
    /// The first id in the parent user namespace.
    pub outside: u32,
    /// How many ids.
    pub length: u32,
}

impl IdMap {
    /// Returns the line.
    pub const fn new(inside: u32, outside: u32, length: u32) -> Self {
        Self { inside, outside, length }
    }

    /// The kernel also refuses a range that reaches `u32::MAX`, which stands for "no id".
    const fn is_valid(&self) -> bool {
        self.length > 0
            && self.inside.checked_add(self.length).is_some()
            && self.outside.checked_add(self.length).is_some()
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.length)
    }
}

impl FromStr for IdMap {
    type Err = Error;

    /// Parses three numbers with any blanks between and around them, as the kernel prints them.
    fn from_str(line: &str) -> Result<Self> {
        let syntax = || Error::IdMapSyntax { line: line.to_owned() };
        let mut numbers = line.split_ascii_whitespace();
        let mut next = || numbers.next().and_then(|number| number.parse().ok()).ok_or_else(syntax);
        let map = Self { inside: next()?, outside: next()?, length: next()? };
        if numbers.next().is_some() { Err(syntax()) } else { Ok(map) }
    }
}

/// A whole id map that the kernel will not refuse for its form: at least one line, no line empty or past the last id,
/// no id twice inside or outside, at most 340 lines and 4,095 bytes.
///
/// See [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html). Whether the writer may use the
/// outside ids only the kernel knows.
///
/// ```
/// use podrun_namespaces::{IdMap, IdMaps};
///
/// let maps = IdMaps::new([IdMap::new(0, 100_000, 65_536)])?;
/// assert_eq!(maps.outside_of(1000), Some(101_000));
/// assert_eq!("0 100000 65536\n".parse::<IdMaps>()?, maps);
/// assert!(IdMaps::new([IdMap::new(0, 5, 10), IdMap::new(9, 50, 1)]).is_err());
/// # Ok::<(), podrun_namespaces::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdMaps {
    lines: Vec<IdMap>,
}

impl IdMaps {
    /// The most lines a map can have, since Linux 4.15 (`UID_GID_MAP_MAX_EXTENTS`).
    pub const MAX_LINES: usize = 340;
    /// The kernel takes less than a page; the smallest page has 4,096 bytes.
    const MAX_BYTES: usize = 4095;

    /// Checks the lines and returns the map. Their order is kept.
    ///
    /// # Errors
    ///
    /// [`Error::IdMapEmpty`], [`Error::IdMapRange`], [`Error::IdMapOverlap`], [`Error::IdMapTooLarge`].
    pub fn new(lines: impl IntoIterator<Item = IdMap>) -> Result<Self> {
        let maps = Self { lines: lines.into_iter().collect() };
        if maps.lines.is_empty() {
            return Err(Error::IdMapEmpty);
        }
        let (lines, bytes) = (maps.lines.len(), maps.to_string().len());
        if lines > Self::MAX_LINES || bytes > Self::MAX_BYTES {
            return Err(Error::IdMapTooLarge { lines, bytes });
        }
        if let Some(line) = maps.lines.iter().find(|line| !line.is_valid()) {
            return Err(Error::IdMapRange { line: *line });
        }
        check_overlap(&maps.lines, "inside", |line| line.inside)?;
        check_overlap(&maps.lines, "outside", |line| line.outside)?;
        Ok(maps)
    }

    /// Returns the map that gives every id to the same id: all but the last, which stands for "no id".
    pub fn identity() -> Self {
        Self { lines: vec![IdMap::new(0, 0, u32::MAX)] }
    }

    /// Returns the lines.
    pub fn lines(&self) -> &[IdMap] {
        &self.lines
    }

    /// Returns which id of the parent user namespace `inside` is, if it is mapped.
    pub fn outside_of(&self, inside: u32) -> Option<u32> {
        self.lines.iter().find_map(|line| shift(inside, line.inside, line.outside, line.length))
    }

    /// Returns which id of the user namespace `outside` is, if it is mapped.
    pub fn inside_of(&self, outside: u32) -> Option<u32> {
        self.lines.iter().find_map(|line| shift(outside, line.outside, line.inside, line.length))
    }
}

/// Moves `id` from the range at `from` to the one at `to`.
fn shift(id: u32, from: u32, to: u32, length: u32) -> Option<u32> {
    let offset = id.checked_sub(from)?;
    (offset < length).then(|| to + offset)
}

fn check_overlap(lines: &[IdMap], side: &'static str, first_id: impl Fn(&IdMap) -> u32) -> Result<()> {
    let mut sorted = lines.to_vec();
    sorted.sort_by_key(&first_id);
    match sorted.windows(2).find(|pair| first_id(&pair[1]) - first_id(&pair[0]) < pair[0].length) {
        Some(pair) => Err(Error::IdMapOverlap { first: pair[0], second: pair[1], side }),
        None => Ok(()),
    }
}

impl fmt::Display for IdMaps {
    /// Writes the lines with newlines between them: what `uid_map` and `gid_map` take.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{line}")?;
        }
        Ok(())
    }
}

impl FromStr for IdMaps {
    type Err = Error;

    /// Parses the content of `uid_map` or `gid_map`.
    fn from_str(text: &str) -> Result<Self> {
        Self::new(text.lines().map(IdMap::from_str).collect::<Result<Vec<_>>>()?)
    }
}

/// Whether processes of the new user namespace may call setgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetGroups {
    /// They may. Needs `CAP_SETGID` in the parent user namespace.
    Allow,
    /// They may not, ever. What an unprivileged user must choose: a group could otherwise be given up which denies
    /// access to a file.
    Deny,
}

/// Writes the id maps of the user namespace of a process, once for the life of that namespace.
///
/// `/proc` must be mounted for a pid namespace in which the process is visible.
///
/// # Errors
///
/// [`Error::WriteIdMap`]: `EPERM` if a map is written already, or the caller may not use the outside ids (it needs
/// `CAP_SETUID` and `CAP_SETGID` in the parent user namespace, or must map its own ids only and deny setgroups);
/// [`Error::Open`] and [`Error::Read`]: `ESRCH` or `ENOENT` if the process has ended.
#[doc(alias = "uid_map")]
#[doc(alias = "gid_map")]
pub fn write_id_maps(pidfd: BorrowedFd<'_>, uid: &IdMaps, gid: &IdMaps, setgroups: SetGroups) -> Result<()> {
    let gone = || io::Error::from_raw_os_error(libc::ESRCH);
    let pid = pid_of(pidfd)?;
    let path = PathBuf::from(format!("/proc/{}", pid.unwrap_or_default()));
    if pid.is_none() {
        return Err(Error::Open { path, source: gone() });
    }
    let directory = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&path);
    let directory = directory.map_err(|source| Error::Open { path, source })?;
    // The directory stands for the process which had this number when it was opened. If ours is still there now, it
    // was ours.
    sys::pidfd_send_signal(pidfd, 0).map_err(|source| Error::Signal { signal: 0, source })?;
    if setgroups == SetGroups::Deny {
        write_once(&directory, "setgroups", "deny")?;
    }
    write_once(&directory, "gid_map", &gid.to_string())?;
    write_once(&directory, "uid_map", &uid.to_string())
}

/// The kernel takes a map in one write only.
fn write_once(directory: &File, file: &'static str, text: &str) -> Result<()> {
    let path = format!("/proc/self/fd/{}/{file}", directory.as_raw_fd());
    let written =
        fs::OpenOptions::new().write(true).open(path).and_then(|mut file| file.write(text.as_bytes()));
    match written {
        Ok(length) if length == text.len() => Ok(()),
        Ok(_) => Err(io::Error::from(io::ErrorKind::WriteZero)),
        Err(source) => Err(source),
    }
    .map_err(|source| Error::WriteIdMap { file, text: text.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(lines: &[(u32, u32, u32)]) -> Result<IdMaps> {
        IdMaps::new(lines.iter().map(|line| IdMap::new(line.0, line.1, line.2)))
    }

    #[test]
    fn what_the_kernel_prints_is_parsed() {
        // `cat /proc/self/uid_map` in the initial user namespace, and in one of two lines
        let initial = "         0          0 4294967295\n";
        assert_eq!(initial.parse::<IdMaps>().unwrap(), IdMaps::identity());
        let two = "         0       1000          1\n         1     100000      65535\n";
        let parsed = two.parse::<IdMaps>().unwrap();
        assert_eq!(parsed, maps(&[(0, 1000, 1), (1, 100_000, 65_535)]).unwrap());
        assert_eq!(parsed.to_string(), "0 1000 1\n1 100000 65535");
        assert_eq!(parsed.to_string().parse::<IdMaps>().unwrap(), parsed);
    }

    #[test]
    fn lines_that_are_not_three_numbers_are_refused() {
        for line in ["", "1 2", "1 2 3 4", "a 0 1", "-1 0 1", "0 0 4294967296", "0,0,1"] {
            let error = line.parse::<IdMap>().unwrap_err();
            assert!(matches!(&error, Error::IdMapSyntax { line: l } if l == line), "{error}");
        }
        assert!(matches!("0 0 1\n\n".parse::<IdMaps>().unwrap_err(), Error::IdMapSyntax { .. }));
    }

    #[test]
    fn ranges_end_before_the_id_that_means_none() {
        assert!(maps(&[(0, 0, u32::MAX)]).is_ok());
        assert!(maps(&[(u32::MAX - 1, 0, 1)]).is_ok());
        for line in [(0, 0, 0), (1, 0, u32::MAX), (0, 1, u32::MAX), (u32::MAX, 0, 1), (0, u32::MAX, 1)] {
            assert!(matches!(maps(&[line]).unwrap_err(), Error::IdMapRange { .. }), "{line:?}");
        }
    }

    #[test]
    fn an_id_is_mapped_once_on_each_side() {
        assert!(maps(&[(0, 100, 10), (10, 90, 10), (20, 110, 10)]).is_ok());
        let table = [
            ([(0, 100, 10), (9, 200, 1)], "inside"),
            ([(9, 200, 1), (0, 100, 10)], "inside"),
            ([(0, 100, 10), (20, 95, 6)], "outside"),
            ([(0, 100, 1), (1, 100, 1)], "outside"),
        ];
        for (lines, expected) in table {
            let error = maps(&lines).unwrap_err();
            assert!(matches!(error, Error::IdMapOverlap { side, .. } if side == expected), "{error}");
        }
    }

    #[test]
    fn size_is_that_of_the_kernel() {
        assert!(matches!(maps(&[]).unwrap_err(), Error::IdMapEmpty));
        let short = |count: u32| (0..count).map(|id| IdMap::new(id, id, 1)).collect::<Vec<_>>();
        assert_eq!(IdMaps::new(short(340)).unwrap().lines().len(), 340);
        assert!(matches!(IdMaps::new(short(341)), Err(Error::IdMapTooLarge { lines: 341, .. })));
        // Fewer lines, but their text would not fit into a page.
        let long = (0..200).map(|id| IdMap::new(4_000_000_000 + id, 4_000_000_000 + id, 1));
        assert!(matches!(IdMaps::new(long), Err(Error::IdMapTooLarge { lines: 200, .. })));
    }

    #[test]
    fn ids_are_looked_up_in_both_directions() {
        let maps = maps(&[(0, 1000, 1), (1, 100_000, 65_535)]).unwrap();
        for (inside, outside) in [(0, 1000), (1, 100_000), (65_535, 165_534)] {
            assert_eq!(maps.outside_of(inside), Some(outside));
            assert_eq!(maps.inside_of(outside), Some(inside));
        }
        assert_eq!(maps.outside_of(65_536), None);
        assert_eq!(maps.inside_of(0), None);
        assert_eq!(maps.inside_of(165_535), None);
    }
}
