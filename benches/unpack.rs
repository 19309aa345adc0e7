//! A layer's way from an archive into the store, beside its parts alone: decompressing and hashing, and writing files.

#[path = "common/report.rs"]
mod report;

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use podrun_image::{LoadOptions, Store};
use podrun_testkit::require;
use report::{Options, Report, Samples};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Bytes of files in the layer.
const SIZE: u64 = 160 << 20;
/// Where the files come from: a distribution's own mix of small and large ones.
const SOURCES: [&str; 2] = ["/usr/lib", "/usr/share"];

#[derive(Clone, Copy)]
enum Kind {
    Gzip,
    Zstd,
}

fn main() -> io::Result<()> {
    require!(root);
    let options = Options::parse(5);
    let mut report = Report::new("unpack", options);
    let dir = tempfile::tempdir()?;
    let tar = layer()?;
    let (entries, files) = count(&tar)?;
    for (name, kind) in [("gzip", Kind::Gzip), ("zstd", Kind::Zstd)] {
        let blob = compress(&tar, kind)?;
        let archive = dir.path().join(name);
        write_archive(&archive, &tar, &blob)?;
        let (mut read, mut written, mut loaded, mut ratio) =
            (Samples::default(), Samples::default(), Samples::default(), Samples::default());
        for round in 0..=options.count {
            // Each alone, from memory, and to the same disk.
            let alone = decompress_and_hash(&blob, kind)?;
            let files = write_files(&tar, &dir.path().join("files"))?;
            let load = load(&archive, &dir.path().join("store"))?;
            if round == 0 {
                continue;
            }
            read.extend([alone]);
            written.extend([files]);
            loaded.extend([load]);
            ratio.extend([load.as_secs_f64() / alone.max(files).as_secs_f64()]);
        }
        report.row(format!("{name}: decompress and hash alone"), "ms", &read);
        report.row(format!("{name}: write the files alone"), "ms", &written);
        report.row(format!("{name}: load into the store"), "ms", &loaded);
        report.row(format!("{name}: load / the slower of the two"), "x", &ratio);
    }
    report.note(format!("one layer of {entries} entries, {} MB of files; goal: at most 1.3", files >> 20));
    report.note("loading also keeps the blob; both ways of writing wait for the disk");
    report.print();
    Ok(())
}

/// Makes a layer of files of this machine.
fn layer() -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    for source in SOURCES {
        // The same share of each.
        let mut share = SIZE / SOURCES.len() as u64;
        add(&mut tar, Path::new(source), &mut share)?;
    }
    tar.into_inner()
}

fn add(tar: &mut tar::Builder<Vec<u8>>, dir: &Path, share: &mut u64) -> io::Result<()> {
    let inside = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_owned();
    tar.append_dir(inside(dir), dir)?;
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            add(tar, &path, share)?;
        } else if !meta.file_type().is_socket() && meta.len() <= *share {
            tar.append_path_with_name(&path, inside(&path))?;
            *share -= meta.len();
        }
    }
    Ok(())
}

fn count(tar: &[u8]) -> io::Result<(u64, u64)> {
    let (mut entries, mut bytes) = (0, 0);
    for entry in tar::Archive::new(tar).entries()? {
        entries += 1;
        bytes += entry?.size();
    }
    Ok((entries, bytes))
}

fn compress(tar: &[u8], kind: Kind) -> io::Result<Vec<u8>> {
    match kind {
        Kind::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(tar)?;
            encoder.finish()
        }
        Kind::Zstd => zstd::stream::encode_all(tar, 3),
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes an OCI image layout with the layer in a tar file.
fn write_archive(path: &Path, tar: &[u8], blob: &[u8]) -> io::Result<()> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({"os": "linux", "architecture": architecture,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(tar))]}})
    .to_string();
    let describe = |kind: &str, bytes: &[u8]| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media_type, "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len()})
    };
    let layers = [describe("layer.v1.tar", blob)];
    let manifest =
        json!({"schemaVersion": 2, "config": describe("config.v1+json", config.as_bytes()), "layers": layers}).to_string();
    let index = json!({"schemaVersion": 2, "manifests": [describe("manifest.v1+json", manifest.as_bytes())]})
        .to_string();
    let mut out = tar::Builder::new(File::create(path)?);
    let blob_path = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    for (path, bytes) in [
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice()),
        ("index.json".to_owned(), index.as_bytes()),
        (blob_path(manifest.as_bytes()), manifest.as_bytes()),
        (blob_path(config.as_bytes()), config.as_bytes()),
        (blob_path(blob), blob),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, path, bytes)?;
    }
    out.into_inner()?.sync_all()
}

/// Hashes a blob, decompresses it and hashes what comes out, in one thread.
fn decompress_and_hash(blob: &[u8], kind: Kind) -> io::Result<Duration> {
    let start = Instant::now();
    let of_blob = Sha256::digest(blob);
    let mut stream: Box<dyn Read> = match kind {
        Kind::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
        Kind::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(BufReader::new(blob))?),
    };
    let (mut buffer, mut of_tar) = (vec![0; 256 << 10], Sha256::new());
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            read => of_tar.update(&buffer[..read]),
        }
    }
    std::hint::black_box((of_blob, of_tar.finalize()));
    Ok(start.elapsed())
}

/// Writes the files of an uncompressed layer with their modes and times, by path, and waits for the disk.
fn write_files(tar: &[u8], to: &Path) -> io::Result<Duration> {
    fs::create_dir(to)?;
    let start = Instant::now();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = to.join(entry.path()?);
        let mode = entry.header().mode()?;
        let (uid, gid) = (u32::try_from(entry.header().uid()?), u32::try_from(entry.header().gid()?));
        let mtime = std::time::UNIX_EPOCH + Duration::from_secs(entry.header().mtime()?);
        match entry.header().entry_type() {
            tar::EntryType::Directory => fs::create_dir_all(&path)?,
            tar::EntryType::Symlink => {
                if let Some(target) = entry.link_name()? {
                    std::os::unix::fs::symlink(target, &path)?;
                }
            }
            _ => {
                let mut file = File::create_new(&path)?;
                io::copy(&mut entry, &mut file)?;
                std::os::unix::fs::fchown(&file, uid.ok(), gid.ok())?;
                file.set_permissions(fs::Permissions::from_mode(mode))?;
                file.set_modified(mtime)?;
            }
        }
    }
    sync(to)?;
    let took = start.elapsed();
    fs::remove_dir_all(to)?;
    Ok(took)
}

fn load(archive: &Path, to: &Path) -> io::Result<Duration> {
    let start = Instant::now();
    let store = Store::open(to).map_err(io::Error::other)?;
    store.load(archive, &LoadOptions::default()).map_err(io::Error::other)?;
    let took = start.elapsed();
    fs::remove_dir_all(to)?;
    Ok(took)
}

/// Waits for the disk, as the store does.
fn sync(dir: &Path) -> io::Result<()> {
    nix::unistd::syncfs(File::open(dir)?.as_fd()).map_err(io::Error::from)
}
