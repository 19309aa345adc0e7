//! Makes archives over few names, so that entries meet: on each other, in each other, through links.

use std::fmt;

/// A small generator with a good spread (splitmix64); the same seed gives the same archives everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("less than a usize")
    }

    fn pick<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[self.below(items.len())]
    }

    /// True so many times in a thousand.
    fn chance(&mut self, thousandths: usize) -> bool {
        self.below(1000) < thousandths
    }
}

/// An entry as the archive has it.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) flag: u8,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Vec<(&'static str, Vec<u8>)>,
    pub(super) data: Vec<u8>,
    /// Where the data lies in a sparse file, and how large that is.
    pub(super) sparse: Option<(usize, usize)>,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flag, path, link, mode, owner, mtime, xattrs, data, sparse } = self;
        let (flag, path, link) =
            (char::from(*flag), String::from_utf8_lossy(path), String::from_utf8_lossy(link));
        write!(
            f,
            "{flag} {path:?} -> {link:?} {mode:o} {owner:?} {mtime:?} {xattrs:?} {} {sparse:?}",
            data.len()
        )
    }
}

/// `/dev/…` is special, and the rest is not.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "dev", "e"];
const MODES: [u32; 8] = [0o644, 0o755, 0o700, 0o4755, 0o2755, 0o1777, 0o500, 0o000];
/// cap_net_raw=ep, and the same with a newline in it.
const CAPABILITIES: [&[u8; 20]; 2] =
    [b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0", b"\x01\0\0\x02\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"];

/// Makes an archive of a few entries. `outside` is a directory that must not be reached.
pub(super) fn archive(random: &mut Random, outside: &str) -> Vec<Item> {
    let count = 1 + random.below(13);
    (0..count).map(|_| item(random, outside)).collect()
}

fn item(random: &mut Random, outside: &str) -> Item {
    let flag = *random.pick(b"00000555555222211133446\0");
    let mut path = path(random, flag);
    let mut link = Vec::new();
    match flag {
        b'1' => link = if random.chance(20) { target(random, outside) } else { self::path(random, b'1') },
        b'2' => link = target(random, outside),
        b'3' | b'4' if !random.chance(50) => path.splice(0..0, *b"dev/").for_each(drop),
        _ => {}
    }
    let data = match flag {
        b'0' | 0 => vec![b'x'; *random.pick(&[0, 1, 5, 511, 512, 700])],
        _ => Vec::new(),
    };
    let sparse = (flag == b'0' && !data.is_empty() && random.chance(60))
        .then(|| (random.below(3000), random.below(3000)))
        .map(|(before, after)| (before, before + data.len() + after));
    let mut xattrs = Vec::new();
    if random.chance(150) {
        let (name, value): (&str, &[u8]) = match random.below(6) {
            0 => ("security.capability", *random.pick(&CAPABILITIES)),
            1 => ("user.x", b"1\n2"),
            2 => ("user.overlay.opaque", b"y"),
            3 => ("trusted.overlay.opaque", b"y"),
            4 => ("trusted.overlay.redirect", b"/a"),
            _ => ("security.selinux", b"x"),
        };
        xattrs.push((name, value.to_vec()));
    }
    Item {
        flag,
        path,
        link,
        mode: *random.pick(&MODES),
        owner: *random.pick(&[(0, 0), (0, 0), (1000, 1000), (65_534, 7), (4_000_000_000, 0)]),
        mtime: *random.pick(&[
            (1_600_000_000, 0),
            (1_600_000_000, 123_456_789),
            (0, 0),
            (-1, 500_000_000),
            (5, 1),
        ]),
        xattrs,
        data,
        sparse,
    }
}

fn path(random: &mut Random, flag: u8) -> Vec<u8> {
    let depth = *random.pick(&[1, 1, 1, 2, 2, 2, 3, 3, 4]);
    let mut parts: Vec<String> = (0..depth).map(|_| (*random.pick(&NAMES)).to_owned()).collect();
    let name = parts.last_mut().expect("at least one");
    if flag == b'0' && random.chance(300) {
        *name = match random.below(40) {
            0 => ".wh..".to_owned(),
            1 => ".wh...".to_owned(),
            2 => ".wh.".to_owned(),
            3 => ".wh..wh.plnk".to_owned(),
            4..=14 => ".wh..wh..opq".to_owned(),
            _ => format!(".wh.{name}"),
        };
    }
    if random.chance(8) {
        *random.pick_mut(&mut parts) = (*random.pick(&["..", ".wh.a", ".wh..wh.x", "..."])).to_owned();
    }
    if random.chance(4) {
        *random.pick_mut(&mut parts) = "n".repeat(*random.pick(&[255, 256]));
    }
    let slash = if random.chance(30) { *random.pick(&["//", "/./"]) } else { "/" };
    let mut path = parts.join(slash);
    if random.chance(150) {
        let fronts = ["./", "/", "//", ".//"];
        path.insert_str(0, fronts[random.below(fronts.len())]);
    }
    if random.chance(5) {
        path = (*random.pick(&["", ".", "./", "/"])).to_owned();
    }
    if random.chance(if flag == b'5' { 300 } else { 30 }) {
        path.push('/');
    }
    path.into_bytes()
}

fn target(random: &mut Random, outside: &str) -> Vec<u8> {
    let inner = |random: &mut Random| {
        let depth = 1 + random.below(3);
        (0..depth).map(|_| *random.pick(&NAMES)).collect::<Vec<_>>().join("/")
    };
    let text = match random.below(20) {
        0 => outside.to_owned(),
        1 => format!("{outside}/file"),
        2 => format!("../../..{outside}"),
        3 => "../../../../../..".to_owned(),
        4 => "/".to_owned(),
        5 => ".".to_owned(),
        6 => "..".to_owned(),
        7 => "/proc/self/root".to_owned(),
        8..=10 => format!("/{}", inner(random)),
        11..=13 => format!("../{}", inner(random)),
        _ => inner(random),
    };
    if random.chance(3) { Vec::new() } else { text.into_bytes() }
}

impl Random {
    fn pick_mut<'i, T>(&mut self, items: &'i mut [T]) -> &'i mut T {
        let index = self.below(items.len());
        &mut items[index]
    }
}

/// Writes the archive.
pub(super) fn encode(items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in items {
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, value) in &item.xattrs {
            records.push((format!("SCHILY.xattr.{name}"), value.clone()));
        }
        for (key, name) in [("path", &item.path), ("linkpath", &item.link)] {
            if name.len() > 100 {
                records.push((key.to_owned(), name.clone()));
            }
        }
        let (seconds, nanoseconds) = item.mtime;
        if seconds < 0 {
            let text = format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds);
            records.push(("mtime".to_owned(), text.into_bytes()));
        } else if nanoseconds != 0 {
            records.push(("mtime".to_owned(), format!("{seconds}.{nanoseconds:09}").into_bytes()));
        }
        if let Some((offset, size)) = item.sparse {
            records.push(("GNU.sparse.size".to_owned(), size.to_string().into_bytes()));
            let map = format!("{offset},{}", item.data.len());
            records.push(("GNU.sparse.map".to_owned(), map.into_bytes()));
        }
        if !records.is_empty() {
            let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
            block(&mut bytes, b'x', b"pax", b"", 0o644, (0, 0), 0, &data);
        }
        let seconds = u64::try_from(seconds).unwrap_or(0);
        block(&mut bytes, item.flag, &item.path, &item.link, item.mode, item.owner, seconds, &item.data);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let length = (1..8).map(|n| body + n).find(|n| n.to_string().len() + body == *n).expect("short");
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

#[expect(clippy::too_many_arguments, reason = "the fields of a tar header")]
fn block(
    bytes: &mut Vec<u8>,
    flag: u8,
    path: &[u8],
    link: &[u8],
    mode: u32,
    owner: (u32, u32),
    mtime: u64,
    data: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(u64::from(owner.0));
    header.set_gid(u64::from(owner.1));
    header.set_mtime(mtime);
    header.set_size(data.len() as u64);
    let raw = header.as_mut_bytes();
    raw[156] = flag;
    for (at, name) in [(0, path), (157, link)] {
        let shown = name.len().min(100);
        raw[at..at + shown].copy_from_slice(&name[..shown]);
    }
    header.set_cksum();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}
