//! The image for tests is a docker-archive that fits together.

use std::io::Read as _;

use podrun_testkit::{BUSYBOX_REFERENCE, TempRoot, busybox_image, require};
use sha2::{Digest as _, Sha256};

fn entry(archive: &std::path::Path, name: &str) -> Vec<u8> {
    let mut tar = tar::Archive::new(std::fs::File::open(archive).expect("open"));
    let mut entries = tar.entries().expect("a tar").map(|entry| entry.expect("an entry"));
    let mut found = entries
        .find(|entry| entry.path().expect("a path").to_str() == Some(name))
        .unwrap_or_else(|| panic!("{name} is missing"));
    let mut bytes = Vec::new();
    found.read_to_end(&mut bytes).expect("read");
    bytes
}

#[test]
fn the_manifest_leads_to_a_layer_with_the_right_digest() {
    require!(program("busybox"));
    let root = TempRoot::new();
    let archive = busybox_image(root.path());
    let manifest: serde_json::Value =
        serde_json::from_slice(&entry(&archive, "manifest.json")).expect("json");
    assert_eq!(manifest[0]["RepoTags"][0], BUSYBOX_REFERENCE);
    let config = entry(&archive, manifest[0]["Config"].as_str().expect("a name"));
    let config: serde_json::Value = serde_json::from_slice(&config).expect("json");
    let layer = entry(&archive, manifest[0]["Layers"][0].as_str().expect("a name"));
    let digest = Sha256::digest(&layer);
    let digest = digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"));
    assert_eq!(config["rootfs"]["diff_ids"][0], digest);

    let inner = root.path().join("layer.tar");
    std::fs::write(&inner, &layer).expect("write");
    assert!(String::from_utf8_lossy(&entry(&inner, "etc/passwd")).contains("app:x:1000:1000:"));
    assert!(entry(&inner, "bin/busybox").starts_with(b"\x7fELF"));
    assert!(entry(&inner, "bin/sh").is_empty(), "a link has no content");
    root.close();
}
