//! How long it takes to pull an image from the real registry server on this machine, beside `skopeo copy`,
//! `umoci unpack` and `podman pull` where they are installed, and beside what the same bytes cost alone: to decompress and hash, and to write.

#[path = "common/report.rs"]
mod report;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use podrun_testkit::{Registry, TempRoot, podrun_bin, require};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

use report::{Options, Report, Samples};

/// Layers of the image, and bytes of each: files as they are found in a distribution.
const LAYERS: usize = 4;
const LAYER_BYTES: usize = 60 << 20;
/// Where the files are taken from.
const SOURCES: [&str; 2] = ["/usr/lib", "/usr/share"];
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn main() -> io::Result<()> {
    require!(root, program("docker-registry"));
    let options = Options::parse(5);
    let mut report = Report::new("pull", options);
    let dir = TempRoot::new();
    let registry = Registry::start(&dir.path().join("registry"));
    let image = Image::make()?;
    let name = format!("{}/bench/image:1", registry.name());
    image.push(&registry);

    let [mut podrun, mut memory, mut skopeo, mut both, mut podman, mut hashing, mut writing] =
        std::array::from_fn(|_| Samples::default());
    let mut places = Places::new(dir.path());
    // In turns, so that all of them meet the same machine.
    for _ in 0..options.count {
        let place = places.next()?;
        let (took, peak) = pull_with_podrun(&place, &registry, &name)?;
        podrun.extend([took]);
        memory.extend([peak]);
        if installed("skopeo") {
            let place = places.next()?;
            let to = format!("dir:{}", place.display());
            let from = format!("docker://{name}");
            skopeo.extend([run("skopeo", &["copy", "-q", "--src-tls-verify=false", &from, &to])?.0]);
        }
        if installed("skopeo") && installed("umoci") {
            let place = places.next()?;
            let (image, bundle) = (place.join("oci").display().to_string() + ":1", place.join("bundle"));
            let (from, to) = (format!("docker://{name}"), format!("oci:{image}"));
            let copied = run("skopeo", &["copy", "-q", "--src-tls-verify=false", &from, &to])?.0;
            let bundle = bundle.display().to_string();
            both.extend([copied + run("umoci", &["unpack", "--image", &image, &bundle])?.0]);
        }
        if installed("podman") {
            let place = places.next()?;
            let (root, run_root) = (place.join("root"), place.join("run"));
            let (root, run_root) = (root.display().to_string(), run_root.display().to_string());
            let global = ["--root", &root, "--runroot", &run_root, "--storage-driver", "overlay"];
            let pull = ["pull", "-q", "--tls-verify=false", &name];
            podman.extend([run("podman", &[&global[..], &pull].concat())?.0]);
        }
        hashing.extend([image.hash()?]);
        let place = places.next()?;
        writing.extend([image.write(&place)?]);
    }
    report.row("floor: decompress and hash, one thread", "ms", &hashing);
    report.row("floor: write and sync blobs and files", "ms", &writing);
    report.row("podrun image pull", "ms", &podrun);
    report.row("podrun image pull: most memory", "MiB", &memory);
    let larger = hashing.median().max(writing.median());
    report.row("podrun / larger floor", "x", &[podrun.median() / larger].into_iter().collect());
    for (peer, samples) in [
        ("skopeo copy (unpacks nothing)", &skopeo),
        ("skopeo copy + umoci unpack", &both),
        ("podman pull", &podman),
    ] {
        if samples.median().is_nan() {
            report.note(format!("{peer} is not installed"));
        } else {
            report.row(peer, "ms", samples);
            report.row(
                format!("{peer} / podrun"),
                "x",
                &[samples.median() / podrun.median()].into_iter().collect(),
            );
        }
    }
    let (packed, unpacked) = (image.packed() >> 20, (LAYERS * LAYER_BYTES) >> 20);
    report.note("files deleted on ext4 in the last five minutes make new ones slow".to_owned());
    report.note(format!("{LAYERS} layers, {packed} MiB compressed, about {unpacked} MiB of files"));
    report.print();
    drop(places);
    drop(registry);
    dir.close();
    Ok(())
}

/// A new directory for each pull. All of them stay until the end: ext4 does not give an inode away that was freed in the last
/// minutes, and looks through all of those for every new file (`recently_deleted` in `fs/ext4/ialloc.c`), so removing what
/// one pull has made would make the next one several times as slow.
struct Places {
    dir: PathBuf,
    count: usize,
}

impl Places {
    fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), count: 0 }
    }

    fn next(&mut self) -> io::Result<PathBuf> {
        // What is still to be written must not slow the next one down.
        nix::unistd::sync();
        self.count += 1;
        let path = self.dir.join(format!("place-{}", self.count));
        fs::create_dir(&path)?;
        Ok(path)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        // podman mounts its storage on itself.
        for number in 1..=self.count {
            let path = self.dir.join(format!("place-{number}/root/overlay"));
            // Only podman's places have one.
            let _ = nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Runs a program; returns how long it took and the most memory that it had, in MiB.
#[expect(clippy::disallowed_methods, reason = "the programs that are measured")]
fn run(program: &str, arguments: &[&str]) -> io::Result<(Duration, f64)> {
    let begun = Instant::now();
    let child = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let peak = std::thread::spawn(move || peak_of(pid));
    let output = child.wait_with_output()?;
    let took = begun.elapsed();
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{program} {arguments:?}: {text}")));
    }
    Ok((took, peak.join().unwrap_or(f64::NAN)))
}

/// Looks at the high-water mark of a process until it is gone.
#[expect(clippy::disallowed_methods, reason = "the mark has no event")]
fn peak_of(pid: nix::unistd::Pid) -> f64 {
    let mut peak = 0.0;
    while let Ok(text) = fs::read_to_string(format!("/proc/{pid}/status")) {
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(kib) = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok())
        else {
            break;
        };
        peak = f64::max(peak, kib / 1024.0);
        std::thread::sleep(Duration::from_millis(2));
    }
    peak
}

fn pull_with_podrun(root: &Path, registry: &Registry, name: &str) -> io::Result<(Duration, f64)> {
    fs::create_dir_all(root.join("etc"))?;
    let settings = format!("[registry.\"{}\"]\nplain-http = true\n", registry.name());
    fs::write(root.join("etc/registries.toml"), settings)?;
    let root = root.display().to_string();
    run(&podrun_bin().display().to_string(), &["--root", &root, "image", "pull", "-q", name])
}

/// An image of files of this machine.
struct Image {
    layers: Vec<Vec<u8>>,
    config: Vec<u8>,
}

impl Image {
    fn make() -> io::Result<Self> {
        let mut files = Vec::new();
        for source in SOURCES {
            collect(Path::new(source), &mut files)?;
        }
        files.sort();
        let mut files = files.into_iter();
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for _ in 0..LAYERS {
            let mut archive = Builder::new(Vec::new());
            while archive.get_ref().len() < LAYER_BYTES {
                let Some(path) = files.next() else { break };
                let Ok(data) = fs::read(&path) else { continue };
                let mut header = Header::new_gnu();
                header.set_size(data.len() as u64);
                header.set_mode(0o644);
                archive.append_data(
                    &mut header,
                    path.strip_prefix("/").map_err(io::Error::other)?,
                    &data[..],
                )?;
            }
            let tar = archive.into_inner()?;
            diff_ids.push(digest(&tar));
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&tar)?;
            layers.push(encoder.finish()?);
        }
        let config = json!({
            "architecture": podrun_image::Platform::host().architecture, "os": "linux",
            "config": { "Cmd": ["x"] }, "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        Ok(Self { layers, config: config.to_string().into_bytes() })
    }

    fn push(&self, registry: &Registry) {
        let layers: Vec<_> = self.layers.iter().map(|layer| (GZIP, layer.as_slice())).collect();
        registry.push("bench/image", "1", &self.config, &layers);
    }

    fn packed(&self) -> usize {
        self.layers.iter().map(Vec::len).sum()
    }

    /// Hashes, decompresses and hashes again, and does nothing else.
    fn hash(&self) -> io::Result<Duration> {
        let begun = Instant::now();
        let mut buffer = vec![0; 128 << 10];
        for layer in &self.layers {
            std::hint::black_box(Sha256::digest(layer));
            let (mut decoder, mut hasher) = (MultiGzDecoder::new(&layer[..]), Sha256::new());
            loop {
                let read = decoder.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                hasher.update(&buffer[..read]);
            }
            std::hint::black_box(hasher.finalize());
        }
        Ok(begun.elapsed())
    }

    /// Writes as many bytes as a pull does, in large files.
    fn write(&self, dir: &Path) -> io::Result<Duration> {
        let mut tars = Vec::new();
        for layer in &self.layers {
            let mut tar = Vec::new();
            MultiGzDecoder::new(&layer[..]).read_to_end(&mut tar)?;
            tars.push(tar);
        }
        let begun = Instant::now();
        for (number, bytes) in self.layers.iter().chain(&tars).enumerate() {
            let mut file = File::create(dir.join(number.to_string()))?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        Ok(begun.elapsed())
    }
}

/// Lists the files of a directory that are neither links nor very large.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let data = entry.path().symlink_metadata()?;
        if data.is_dir() {
            collect(&entry.path(), files)?;
        } else if data.is_file() && data.len() < 8 << 20 && entry.path().as_os_str().len() < 200 {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
