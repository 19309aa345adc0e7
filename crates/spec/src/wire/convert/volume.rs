//! Volumes.

use k8s_openapi::api::core::v1 as api;

use super::container::pull_policy;
use super::{Result, quantity, string, unfit};
use crate::model::{HostPathType, Medium, Volume, VolumeSource};
use crate::path::Path;

pub(super) fn volumes(spec: &api::PodSpec, path: &Path) -> Result<Vec<Volume>> {
    let wire = spec.volumes.as_deref().unwrap_or_default();
    wire.iter().enumerate().map(|(index, one)| volume(one, &path.index(index))).collect()
}

fn volume(wire: &api::Volume, path: &Path) -> Result<Volume> {
    let source = if let Some(source) = &wire.empty_dir {
        let path = path.child("emptyDir");
        VolumeSource::EmptyDir {
            medium: match source.medium.as_deref() {
                None | Some("") => Medium::Disk,
                Some("Memory") => Medium::Memory,
                Some(other) => return unfit(&path.child("medium"), other),
            },
            size_limit: source
                .size_limit
                .as_ref()
                .map(|q| quantity(q, &path.child("sizeLimit")))
                .transpose()?,
        }
    } else if let Some(source) = &wire.host_path {
        VolumeSource::HostPath {
            path: source.path.clone(),
            kind: match source.type_.as_deref() {
                None | Some("") => HostPathType::Unset,
                Some("DirectoryOrCreate") => HostPathType::DirectoryOrCreate,
                Some("Directory") => HostPathType::Directory,
                Some("FileOrCreate") => HostPathType::FileOrCreate,
                Some("File") => HostPathType::File,
                Some("Socket") => HostPathType::Socket,
                Some("CharDevice") => HostPathType::CharDevice,
                Some("BlockDevice") => HostPathType::BlockDevice,
                Some(other) => return unfit(&path.child("hostPath").child("type"), other),
            },
        }
    } else if let Some(source) = &wire.image {
        let path = path.child("image").child("pullPolicy");
        VolumeSource::Image {
            reference: string(source.reference.as_ref()),
            pull_policy: pull_policy(source.pull_policy.as_deref(), &path)?,
        }
    } else {
        return unfit(path, wire.name.as_str());
    };
    Ok(Volume { name: wire.name.clone(), source })
}
