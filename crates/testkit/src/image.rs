//! A small real image for tests.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// The name under which [`busybox_image`] is known after loading.
pub const BUSYBOX_REFERENCE: &str = "localhost/busybox:test";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n\
                      app:x:1000:1000:app:/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\napp:x:1000:\nextra:x:2000:app\n";

/// Writes a docker-archive with a static busybox into `dir` and returns its path.
///
/// The image is [`BUSYBOX_REFERENCE`]. It has `/bin/busybox` with a link for each applet, the users
/// `root`, `nobody` and `app` (1000, with the additional group `extra`, 2000), `PATH`, and the
/// command `sh`. The same busybox gives the same bytes.
///
/// # Panics
/// If there is no busybox on the host (use `require!(program("busybox"))`) or a write fails.
pub fn busybox_image(dir: &Path) -> PathBuf {
    busybox_image_named(dir, BUSYBOX_REFERENCE)
}

/// Does the same as [`busybox_image`] under another name.
///
/// # Panics
/// If there is no busybox on the host or a write fails.
pub fn busybox_image_named(dir: &Path, reference: &str) -> PathBuf {
    let layer = busybox_layer();
    let diff_id = hex(&layer);
    let config = busybox_config(&layer);
    let config_name = format!("{}.json", hex(&config));
    let layer_name = format!("{diff_id}/layer.tar");
    let manifest = json!([{ "Config": config_name, "RepoTags": [reference], "Layers": [layer_name] }]);

    let path = dir.join("busybox.tar");
    let mut archive = Archive(Builder::new(File::create(&path).expect("the archive can be created")));
    archive.file(&config_name, 0o644, &config);
    archive.directory(&format!("{diff_id}/"), 0o755, 0);
    archive.file(&layer_name, 0o644, &layer);
    archive.file("manifest.json", 0o644, manifest.to_string().as_bytes());
    archive.0.into_inner().and_then(|mut file| file.flush()).expect("the archive can be written");
    path
}

/// Returns the configuration of an image that has this uncompressed layer alone.
///
/// # Panics
/// Never.
pub fn busybox_config(layer: &[u8]) -> Vec<u8> {
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["sh"],
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(layer))] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "podrun-testkit" }],
    });
    config.to_string().into_bytes()
}

/// Returns the one layer of [`busybox_image`], a tar archive.
///
/// # Panics
/// If there is no busybox on the host.
pub fn busybox_layer() -> Vec<u8> {
    let busybox = busybox();
    let mut archive = Archive(Builder::new(Vec::new()));
    for (name, mode, owner) in [
        ("bin/", 0o755, 0),
        ("dev/", 0o755, 0),
        ("etc/", 0o755, 0),
        ("home/", 0o755, 0),
        ("home/app/", 0o755, 1000),
        ("proc/", 0o555, 0),
        ("root/", 0o700, 0),
        ("sys/", 0o555, 0),
        ("tmp/", 0o1777, 0),
        ("var/", 0o755, 0),
    ] {
        archive.directory(name, mode, owner);
    }
    archive.file("bin/busybox", 0o755, &std::fs::read(&busybox).expect("busybox is readable"));
    for applet in applets(&busybox) {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.file("etc/passwd", 0o644, PASSWD.as_bytes());
    archive.file("etc/group", 0o644, GROUP.as_bytes());
    archive.0.into_inner().expect("writing to memory")
}

fn busybox() -> PathBuf {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let found = places.into_iter().find(|path| path.is_file());
    found.expect("a static busybox is installed (Debian: busybox-static)")
}

#[expect(clippy::disallowed_methods, reason = "the busybox of the host knows its own applets best")]
fn applets(busybox: &Path) -> Vec<String> {
    let output = Command::new(busybox).arg("--list").output().expect("busybox runs");
    assert!(output.status.success(), "busybox --list: {}", output.status);
    let text = String::from_utf8(output.stdout).expect("applets have plain names");
    text.lines().filter(|name| *name != "busybox").map(str::to_owned).collect()
}

/// Returns this machine's architecture in the words of Go, which images use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A tar archive whose entries differ in name, mode, owner and content only.
struct Archive<W: std::io::Write>(Builder<W>);

impl<W: std::io::Write> Archive<W> {
    fn entry(&mut self, name: &str, kind: EntryType, mode: u32, owner: u64, target: &str, content: &[u8]) {
        let mut header = Header::new_ustar();
        header.set_path(name).expect("a short name");
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        if kind.is_symlink() {
            header.set_link_name(target).expect("a short target");
        }
        header.set_cksum();
        self.0.append(&header, content).expect("the archive can be written");
    }

    fn directory(&mut self, name: &str, mode: u32, owner: u64) {
        self.entry(name, EntryType::Directory, mode, owner, "", &[]);
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, EntryType::Regular, mode, 0, "", content);
    }

    fn link(&mut self, name: &str, target: &str) {
        self.entry(name, EntryType::Symlink, 0o777, 0, target, &[]);
    }
}
