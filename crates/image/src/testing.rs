//! Archives for tests, hostile ones too: headers are filled in byte by byte with the `tar` crate's types.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::digest::Digest;
use crate::manifest::{OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};

pub(crate) struct TarFile {
    bytes: Vec<u8>,
    pub(crate) owner: (u64, u64),
}

impl TarFile {
    /// An archive whose entries belong to whoever runs the test, so that it can be unpacked without root.
    pub(crate) fn new() -> Self {
        let owner = (u64::from(nix::unistd::geteuid().as_raw()), u64::from(nix::unistd::getegid().as_raw()));
        Self { bytes: Vec::new(), owner }
    }

    pub(crate) fn entry(&mut self, kind: u8, path: &str, link: &str, mode: u32, data: &[u8]) -> &mut Self {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(1_600_000_000);
        header.set_size(data.len() as u64);
        header.set_device_major(1).expect("a GNU header has devices");
        header.set_device_minor(3).expect("a GNU header has devices");
        let raw = header.as_mut_bytes();
        raw[156] = kind;
        raw[..path.len()].copy_from_slice(path.as_bytes());
        raw[157..157 + link.len()].copy_from_slice(link.as_bytes());
        self.header(header).data(data)
    }

    pub(crate) fn header(&mut self, mut header: tar::Header) -> &mut Self {
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self
    }

    pub(crate) fn data(&mut self, data: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn dir(&mut self, path: &str) -> &mut Self {
        self.entry(b'5', path, "", 0o755, b"")
    }

    pub(crate) fn file(&mut self, path: &str, data: &str) -> &mut Self {
        self.entry(b'0', path, "", 0o644, data.as_bytes())
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(b'2', path, target, 0o777, b"")
    }

    pub(crate) fn hard_link(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(b'1', path, target, 0o644, b"")
    }

    pub(crate) fn fifo(&mut self, path: &str) -> &mut Self {
        self.entry(b'6', path, "", 0o620, b"")
    }

    pub(crate) fn device(&mut self, path: &str) -> &mut Self {
        self.entry(b'3', path, "", 0o666, b"")
    }

    /// Pax records for the next entry.
    pub(crate) fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let length = (1..8).map(|n| body + n).find(|n| n.to_string().len() + body == *n).expect("short");
            data.extend_from_slice(
                &[length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat(),
            );
        }
        self.entry(b'x', "pax", "", 0o644, &data)
    }

    pub(crate) fn cut(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    pub(crate) fn finish(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

/// A directory that must not change, beside a place to unpack to.
pub(crate) struct Canary {
    pub(crate) dir: tempfile::TempDir,
    before: Vec<String>,
}

impl Canary {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let canary = dir.path().join("canary");
        fs::create_dir(&canary).expect("create canary");
        fs::write(canary.join("file"), "alive").expect("write canary");
        let before = describe(&canary);
        Self { dir, before }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("canary")
    }

    pub(crate) fn assert_untouched(&self, case: &str) {
        assert_eq!(describe(&self.path()), self.before, "{case}: something outside was touched");
    }

    pub(crate) fn is_untouched(&self) -> bool {
        self.path().exists() && describe(&self.path()) == self.before
    }
}

/// One line per object below `root`: type, mode, owner, links, size, modification time, path, content or target.
pub(crate) fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(root, root, &mut lines);
    lines.sort();
    lines
}

fn walk(root: &Path, path: &Path, lines: &mut Vec<String>) {
    let meta = fs::symlink_metadata(path).expect("stat");
    let name = path.strip_prefix(root).expect("below root").display();
    let kind = meta.mode() & libc::S_IFMT;
    let content = match kind {
        libc::S_IFREG => {
            let bytes = fs::read(path).expect("read");
            String::from_utf8(bytes).unwrap_or_else(|error| Digest::of(error.as_bytes()).to_string())
        }
        libc::S_IFLNK => fs::read_link(path).expect("read link").display().to_string(),
        libc::S_IFCHR => format!("device {}", meta.rdev()),
        _ => String::new(),
    };
    let links = if kind == libc::S_IFDIR { 0 } else { meta.nlink() };
    let (mode, uid, gid) = (meta.mode(), meta.uid(), meta.gid());
    lines.push(format!(
        "{name} {mode:o} {uid}:{gid} {links} {}.{} {content}",
        meta.mtime(),
        meta.mtime_nsec()
    ));
    if kind == libc::S_IFDIR {
        for entry in fs::read_dir(path).expect("read dir") {
            walk(root, &entry.expect("entry").path(), lines);
        }
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).expect("memory")
}

/// An image as its parts, to be written as an archive or layout of either kind.
pub(crate) struct TestImage {
    pub(crate) config: Vec<u8>,
    /// Layers as they are stored, and their uncompressed digests.
    pub(crate) layers: Vec<(Vec<u8>, Digest)>,
}

impl TestImage {
    /// An image for this machine; each layer is uncompressed, gzip or zstd in turn.
    pub(crate) fn new(layers: &[Vec<u8>]) -> Self {
        Self::for_platform(layers, &crate::Platform::host().architecture)
    }

    pub(crate) fn for_platform(layers: &[Vec<u8>], architecture: &str) -> Self {
        let layers: Vec<_> = layers
            .iter()
            .enumerate()
            .map(|(index, tar)| {
                let bytes = match index % 3 {
                    0 => tar.clone(),
                    1 => gzip(tar),
                    _ => zstd(tar),
                };
                (bytes, Digest::of(tar))
            })
            .collect();
        let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id.to_string()).collect();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "created": "2020-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/true"], "Env": ["A=b"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Self { config: config.to_string().into_bytes(), layers }
    }

    pub(crate) fn manifest(&self) -> Vec<u8> {
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|(bytes, _)| serde_json::json!({"mediaType": OCI_LAYER, "digest": Digest::of(bytes), "size": bytes.len()}))
            .collect();
        serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers,
            "config": {"mediaType": OCI_CONFIG, "digest": Digest::of(&self.config), "size": self.config.len()},
        })
        .to_string()
        .into_bytes()
    }

    /// Path and content of every blob of an OCI layout.
    pub(crate) fn blobs(&self) -> Vec<(String, Vec<u8>)> {
        let layers = self.layers.iter().map(|(bytes, _)| bytes.clone());
        layers
            .chain([self.config.clone(), self.manifest()])
            .map(|bytes| (format!("blobs/sha256/{}", Digest::of(&bytes).hex()), bytes))
            .collect()
    }

    pub(crate) fn oci(&self, name: Option<&str>) -> Vec<(String, Vec<u8>)> {
        let manifest = self.manifest();
        let annotations = name.map(|name| serde_json::json!({"org.opencontainers.image.ref.name": name}));
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
            "mediaType": OCI_MANIFEST, "digest": Digest::of(&manifest), "size": manifest.len(),
            "annotations": annotations,
        }]});
        let mut files = self.blobs();
        files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        files.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        files
    }

    pub(crate) fn docker(&self, names: &[&str]) -> Vec<(String, Vec<u8>)> {
        let config = format!("{}.json", Digest::of(&self.config).hex());
        let mut files: Vec<_> = self
            .layers
            .iter()
            .map(|(bytes, diff_id)| (format!("{}/layer.tar", diff_id.hex()), bytes.clone()))
            .collect();
        let layers: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
        let manifest = serde_json::json!([{"Config": config, "RepoTags": names, "Layers": layers}]);
        files.push((config, self.config.clone()));
        files.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
        files
    }
}

pub(crate) fn write_dir(root: &Path, files: &[(String, Vec<u8>)]) {
    for (path, bytes) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("below root")).expect("create directory");
        fs::write(path, bytes).expect("write");
    }
}

pub(crate) fn to_tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = TarFile::new();
    for (path, bytes) in files {
        tar.entry(b'0', path, "", 0o644, bytes);
    }
    tar.finish()
}

/// Ends a chain of entries where a closure returns nothing.
pub(crate) fn done(_: &mut TarFile) {}
