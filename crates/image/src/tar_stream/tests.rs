use super::*;
use crate::stream::Streamed;
use crate::testing::{TarFile, done};

fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut tar = TarReader::new(Streamed(bytes), 1000);
    let mut entries = Vec::new();
    while let Some(entry) = tar.next()? {
        let mut data = Vec::new();
        let mut buffer = [0; 700];
        loop {
            match tar.data(&mut buffer)? {
                0 => break,
                read => data.extend_from_slice(&buffer[..read]),
            }
        }
        entries.push((entry, data));
    }
    Ok(entries)
}

fn only(bytes: &[u8]) -> (Entry, Vec<u8>) {
    read(bytes).expect("a valid archive").pop().expect("an entry")
}

#[test]
fn names_come_from_pax_before_gnu_before_the_header() {
    let long = "d/".repeat(90) + "f";
    let mut tar = TarFile::new();
    tar.entry(b'L', "././@LongLink", "", 0, format!("{long}\0").as_bytes());
    tar.entry(b'K', "././@LongLink", "", 0, b"target\0");
    tar.symlink("short", "t");
    let (entry, _) = only(&tar.finish());
    assert_eq!((entry.path, entry.link), (long.into_bytes(), b"target".to_vec()));

    let mut tar = TarFile::new();
    tar.pax(&[
        ("path", b"from-pax"),
        ("mtime", b"1.5"),
        ("uid", b"3000000000"),
        ("SCHILY.xattr.user.a", b"1\n2"),
    ]);
    tar.file("plain", "xyz");
    let (entry, data) = only(&tar.finish());
    assert_eq!(
        (entry.path.as_slice(), entry.mtime, entry.uid),
        (&b"from-pax"[..], (1, 500_000_000), 3_000_000_000)
    );
    assert_eq!((entry.xattrs, data), (vec![(b"user.a".to_vec(), b"1\n2".to_vec())], b"xyz".to_vec()));

    let mut header = tar::Header::new_ustar();
    header.set_path(format!("{}/{}", "p".repeat(120), "n".repeat(80))).expect("prefix and name");
    header.set_size(0);
    let bytes = TarFile::new().header(header).finish();
    assert_eq!(only(&bytes).0.path.len(), 201);
}

#[test]
fn the_pax_size_decides_even_beside_a_binary_value() {
    // A reader that splits records at newlines loses the size here and takes the file's data for headers.
    let mut inner = TarFile::new();
    inner.file("smuggled", "");
    let mut data = inner.cut();
    data.resize(1024, 0);
    let mut tar = TarFile::new();
    tar.pax(&[("SCHILY.xattr.security.capability", b"\x01\n\n="), ("size", b"1024")]);
    tar.file("outer", "").data(&data);
    tar.file("last", "");
    let names: Vec<_> =
        read(&tar.finish()).expect("valid").into_iter().map(|(entry, _)| entry.path).collect();
    assert_eq!(names, [b"outer".to_vec(), b"last".to_vec()]);
}

#[test]
fn links_and_directories_have_no_data_whatever_their_size_says() {
    let mut tar = TarFile::new();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(5000);
    header.as_mut_bytes()[0] = b'l';
    header.as_mut_bytes()[157] = b't';
    tar.header(header).file("next", "data");
    let entries = read(&tar.finish()).expect("valid");
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].0.kind, entries[1].1.as_slice()), (Kind::HardLink, &b"data"[..]));
}

#[test]
fn a_slash_at_the_end_makes_a_directory_only_in_the_oldest_archives() {
    // As in Go's reader: a regular file stays one, and the data of an old directory is passed over.
    let mut tar = TarFile::new();
    tar.entry(b'0', "file/", "", 0o644, b"data").entry(0, "directory/", "", 0o755, b"odd").file("next", "x");
    let entries = read(&tar.finish()).expect("valid");
    let kinds: Vec<_> = entries.iter().map(|(entry, data)| (entry.kind, data.len())).collect();
    assert_eq!(kinds, [(Kind::File, 4), (Kind::Directory, 3), (Kind::File, 1)]);
}

#[test]
fn all_four_sparse_formats_are_read() {
    // GNU tar --sparse of a file with "A" * 512 at 1024 and "B" * 512 at 4096 of 8192 bytes.
    let data = [[b'A'; 512], [b'B'; 512]].concat();
    let segments = vec![(1024, 512), (4096, 512)];
    let pairs: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"8192"),
        ("GNU.sparse.offset", b"1024"),
        ("GNU.sparse.numbytes", b"512"),
        ("GNU.sparse.offset", b"4096"),
        ("GNU.sparse.numbytes", b"512"),
    ];
    let list: &[(&str, &[u8])] = &[("GNU.sparse.size", b"8192"), ("GNU.sparse.map", b"1024,512,4096,512")];
    for records in [pairs, list] {
        let mut tar = TarFile::new();
        tar.pax(records).entry(b'0', "sparse", "", 0o644, &data);
        let (entry, read) = only(&tar.finish());
        assert_eq!((entry.size, &entry.segments, &read), (8192, &segments, &data));
    }

    let mut tar = TarFile::new();
    tar.pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"real"),
        ("GNU.sparse.realsize", b"8192"),
    ]);
    let mut with_map = b"2\n1024\n512\n4096\n512\n".to_vec();
    with_map.resize(512, 0);
    with_map.extend_from_slice(&data);
    tar.entry(b'0', "GNUSparseFile.0/real", "", 0o644, &with_map);
    let (entry, read) = only(&tar.finish());
    assert_eq!((entry.size, &entry.segments, read), (8192, &segments, data.clone()));
    assert_eq!(entry.path, b"real");

    let mut tar = TarFile::new();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(1024);
    let gnu = header.as_gnu_mut().expect("a GNU header");
    gnu.name[0] = b's';
    gnu.sparse[0].offset.copy_from_slice(b"00000002000\0");
    gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
    gnu.isextended[0] = 1;
    gnu.realsize.copy_from_slice(b"00000020000\0");
    let mut more = [0; 512];
    more[..24].copy_from_slice(b"00000010000\x0000000001000\0");
    tar.header(header).data(&more).data(&data);
    let (entry, read) = only(&tar.finish());
    assert_eq!((entry.size, &entry.segments, read), (8192, &segments, data));
}

#[test]
fn broken_archives_are_errors() {
    let mut good = TarFile::new();
    good.file("a", "some data");
    let whole = good.finish();
    for length in [1, 511, 513, 600, 1023] {
        let error = read(&whole[..length]).expect_err("cut off");
        assert!(
            matches!(&error, Error::Archive { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof),
            "{error:?}"
        );
    }
    // A missing end mark is tolerated, as everywhere.
    assert!(read(&whole[..1024]).is_ok());

    let case = |make: &dyn Fn(&mut TarFile)| {
        let mut tar = TarFile::new();
        make(&mut tar);
        read(&tar.finish()).expect_err("broken")
    };
    let header = |kind: u8, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.as_mut_bytes()[156] = kind;
        header
    };
    for (what, error) in [
        ("no tar", read(&[b'x'; 1024]).expect_err("broken")),
        ("pax at the end", case(&|tar| done(tar.pax(&[("path", b"x")])))),
        ("bad pax", case(&|tar| done(tar.entry(b'x', "p", "", 0, b"9 a\n").file("f", "")))),
        ("bad number", case(&|tar| done(tar.pax(&[("size", b"x")]).file("f", "")))),
        (
            "odd sparse map",
            case(&|tar| {
                tar.pax(&[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,1,2")]).file("f", "");
            }),
        ),
        (
            "sparse map out of order",
            case(&|tar| {
                tar.pax(&[("GNU.sparse.size", b"9000"), ("GNU.sparse.map", b"512,1,0,1")]).file("f", "ab");
            }),
        ),
        (
            "sparse map beyond the size",
            case(&|tar| {
                tar.pax(&[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"9,1")]).file("f", "a");
            }),
        ),
        (
            "sparse map that overflows",
            case(&|tar| {
                tar.pax(&[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"18446744073709551615,1")])
                    .file("f", "a");
            }),
        ),
        (
            "sparse map with other data",
            case(&|tar| {
                tar.pax(&[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,1")]).file("f", "abc");
            }),
        ),
    ] {
        assert!(matches!(error, Error::Malformed { .. }), "{what}: {error:?}");
    }
    let endless = case(&|tar| {
        tar.pax(&[("size", b"18446744073709551615")]).file("f", "").file("g", "");
    });
    assert!(matches!(endless, Error::Archive { .. }), "{endless:?}");
    let mut zeros = vec![0; 512];
    zeros.extend_from_slice(&whole);
    assert!(matches!(read(&zeros), Err(Error::Malformed { .. })), "data after the end mark");

    for (what, error) in [
        ("uid", case(&|tar| done(tar.pax(&[("uid", b"4294967296")]).file("f", "")))),
        ("uid -1", case(&|tar| done(tar.pax(&[("uid", b"4294967295")]).file("f", "")))),
        ("gid", case(&|tar| done(tar.pax(&[("gid", b"4294967295")]).file("f", "")))),
        ("type", case(&|tar| done(tar.entry(b'V', "label", "", 0, b"")))),
    ] {
        assert!(matches!(error, Error::Refused { .. }), "{what}: {error:?}");
    }

    let limit = limits::MAX_HEADER_BYTES;
    for kind in [b'x', b'g', b'L', b'K'] {
        // The header alone: nothing of two gigabytes is read, let alone allocated.
        let error = case(&|tar| done(tar.header(header(kind, 2 << 30))));
        assert!(matches!(error, Error::Limit { max, .. } if max == limit), "{}: {error:?}", char::from(kind));
    }
}

#[test]
fn counts_are_bounded() {
    let mut tar = TarFile::new();
    for _ in 0..1001 {
        tar.file("f", "");
    }
    assert!(matches!(read(&tar.finish()), Err(Error::Limit { unit: "entries", max: 1000, .. })));

    let mut tar = TarFile::new();
    for _ in 0..4001 {
        tar.entry(b'g', "global", "", 0, b"");
    }
    assert!(matches!(read(&tar.finish()), Err(Error::Limit { unit: "extended headers", .. })));

    let map = (0..=limits::MAX_SPARSE_SEGMENTS).map(|n| format!("{n},0")).collect::<Vec<_>>().join(",");
    let mut tar = TarFile::new();
    tar.pax(&[("GNU.sparse.size", b"999999"), ("GNU.sparse.map", map.as_bytes())]).file("f", "");
    assert!(matches!(read(&tar.finish()), Err(Error::Limit { unit: "segments of a sparse file", .. })));
}

proptest::proptest! {
    #[test]
    fn no_archive_makes_the_reader_panic(
        mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..4096),
        fix in proptest::bool::ANY,
        kind in proptest::sample::select(b"0123456xgLKS7V".to_vec()),
    ) {
        // Random bytes rarely have a checksum; give them one, and a type worth reading.
        if fix && bytes.len() >= 512 {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&bytes[..512]);
            header.as_mut_bytes()[156] = kind;
            header.set_size(1000);
            header.set_cksum();
            bytes[..512].copy_from_slice(header.as_bytes());
        }
        drop(read(&bytes));
    }
}
