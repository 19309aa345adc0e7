//! Volumes on the host's side: directories, and checks of host paths.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use podrun_plan::model::{VolumePlan, VolumeSourcePlan};
use podrun_spec::model::HostPathType;

use crate::{SandboxError, tree};

/// Makes a volume ready before containers use it. May be repeated.
///
/// A directory gets mode 0777 whatever the umask is, and all of it the group `fs_group` if there is one. A host path is
/// made or checked as its type says; without a type nothing is looked at. A tmpfs needs nothing here: it is made with
/// the sandbox, and an image is mounted when a container starts.
///
/// # Errors
///
/// [`SandboxError::HostPathType`] with the kubelet's words, [`SandboxError::File`] with what the file system says.
pub fn prepare(volume: &VolumePlan) -> Result<(), SandboxError> {
    match &volume.source {
        VolumeSourcePlan::Directory { path } => directory(path, volume.fs_group),
        VolumeSourcePlan::HostPath { path, kind } => host_path(path, *kind),
        VolumeSourcePlan::Tmpfs { .. } | VolumeSourcePlan::Image { .. } => Ok(()),
    }
}

fn directory(path: &Path, fs_group: Option<u32>) -> Result<(), SandboxError> {
    fs::create_dir_all(path).map_err(SandboxError::file("create", path))?;
    // Our own directory below the data directory: no container can put a link in its place.
    if fs_group.is_none() {
        let mode = Permissions::from_mode(0o777);
        fs::set_permissions(path, mode).map_err(SandboxError::file("change the mode of", path))?;
        return Ok(());
    }
    let current = fs::metadata(path).map_err(SandboxError::file("read", path))?.permissions().mode();
    if current & 0o777 != 0o777 {
        let mode = Permissions::from_mode(current & 0o7777 | 0o777);
        fs::set_permissions(path, mode).map_err(SandboxError::file("change the mode of", path))?;
    }
    fs_group.map_or(Ok(()), |group| tree::give_to_group(path, group))
}

fn host_path(path: &Path, kind: HostPathType) -> Result<(), SandboxError> {
    match kind {
        HostPathType::Unset => return Ok(()),
        HostPathType::DirectoryOrCreate if !exists(path)? => {
            fs::create_dir_all(path).map_err(SandboxError::file("create", path))?;
            let mode = Permissions::from_mode(0o755);
            fs::set_permissions(path, mode).map_err(SandboxError::file("change the mode of", path))?;
        }
        HostPathType::FileOrCreate if !exists(path)? => {
            let created = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path);
            created.map_err(SandboxError::file("create", path))?;
            let mode = Permissions::from_mode(0o644);
            fs::set_permissions(path, mode).map_err(SandboxError::file("change the mode of", path))?;
        }
        _ => {}
    }
    let (expected, right) = check(kind, path);
    if right { Ok(()) } else { Err(SandboxError::HostPathType { path: path.to_owned(), expected }) }
}

/// Returns what the kubelet calls the type, and whether it is what is at `path`.
fn check(kind: HostPathType, path: &Path) -> (&'static str, bool) {
    let is = |test: fn(&fs::FileType) -> bool| fs::metadata(path).is_ok_and(|m| test(&m.file_type()));
    match kind {
        HostPathType::Unset => ("", true),
        HostPathType::DirectoryOrCreate | HostPathType::Directory => ("directory", is(fs::FileType::is_dir)),
        HostPathType::FileOrCreate | HostPathType::File => ("file", is(fs::FileType::is_file)),
        HostPathType::Socket => ("socket file", is(FileTypeExt::is_socket)),
        HostPathType::CharDevice => ("character device", is(FileTypeExt::is_char_device)),
        HostPathType::BlockDevice => ("block device", is(FileTypeExt::is_block_device)),
    }
}

fn exists(path: &Path) -> Result<bool, SandboxError> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(SandboxError::file("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixListener;

    use podrun_testkit::TempRoot;

    use super::*;

    #[test]
    fn types_are_checked_with_the_words_of_the_kubelet() {
        let root = TempRoot::new();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("dir")).expect("mkdir");
        fs::write(at("file"), "").expect("write");
        let _socket = UnixListener::bind(at("socket")).expect("bind");
        let device = Path::new("/dev/null").to_owned();
        let table = [
            (HostPathType::Directory, at("dir"), None),
            (HostPathType::Directory, at("file"), Some("directory")),
            (HostPathType::Directory, at("none"), Some("directory")),
            (HostPathType::File, at("file"), None),
            (HostPathType::File, at("dir"), Some("file")),
            (HostPathType::Socket, at("socket"), None),
            (HostPathType::Socket, at("file"), Some("socket file")),
            (HostPathType::CharDevice, device.clone(), None),
            (HostPathType::CharDevice, at("file"), Some("character device")),
            (HostPathType::BlockDevice, device, Some("block device")),
            (HostPathType::DirectoryOrCreate, at("file"), Some("directory")),
            (HostPathType::FileOrCreate, at("dir"), Some("file")),
            (HostPathType::Unset, at("none"), None),
        ];
        for (kind, path, expected) in table {
            let text = expected
                .map(|what| format!("hostPath type check failed: {} is not a {what}", path.display()));
            let result = host_path(&path, kind).err().map(|e| e.to_string());
            assert_eq!(result, text, "{kind:?} {}", path.display());
        }
        assert!(!at("none").exists(), "without a type nothing is made");
        root.close();
    }

    #[test]
    fn missing_paths_are_made_with_their_modes() {
        let root = TempRoot::new();
        let (dir, file) = (root.path().join("a/b"), root.path().join("f"));
        host_path(&dir, HostPathType::DirectoryOrCreate).expect("made with its parents");
        host_path(&file, HostPathType::FileOrCreate).expect("made");
        assert_eq!(fs::metadata(&dir).expect("there").mode() & 0o7777, 0o755);
        assert_eq!(fs::metadata(&file).expect("there").mode() & 0o7777, 0o644);
        let orphan = root.path().join("no/parent");
        assert!(host_path(&orphan, HostPathType::FileOrCreate).is_err());
        root.close();
    }

    #[test]
    fn a_directory_volume_is_open_to_all_whatever_the_umask() {
        let root = TempRoot::new();
        let path = root.path().join("volumes/data");
        let source = VolumeSourcePlan::Directory { path: path.clone() };
        let volume = VolumePlan { name: "data".to_owned(), source, fs_group: None };
        prepare(&volume).expect("made");
        prepare(&volume).expect("made again");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o777);
        root.close();
    }
}
