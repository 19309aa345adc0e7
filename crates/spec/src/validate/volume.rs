//! Volumes.

use k8s_openapi::api::core::v1 as api;

use super::container::descending_path;
use super::{Cause, env, names};
use crate::path::Path;

/// Checks the volumes and returns their names.
///
/// Of the types that podrun does not mount, only those made of keys are looked into; the others are refused as a
/// whole by the support gate.
pub(super) fn volumes(volumes: &[api::Volume], path: &Path, causes: &mut Vec<Cause>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let name = path.child("name");
        if volume.name.is_empty() {
            causes.push(Cause::required(&name, ""));
        } else {
            super::invalid_text(&name, &volume.name, names::dns_label(&volume.name), causes);
            if seen.contains(&volume.name) {
                causes.push(Cause::duplicate(&name, &volume.name));
            }
        }
        seen.push(volume.name.clone());
        one_source(volume, &path, causes);
    }
    seen
}

/// The first source counts; others are forbidden, in the order in which the API server looks.
fn one_source(volume: &api::Volume, path: &Path, causes: &mut Vec<Cause>) {
    let sources = [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("secret", volume.secret.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephfs", volume.cephfs.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("projected", volume.projected.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("image", volume.image.is_some()),
    ];
    let mut set = sources.iter().filter(|(_, set)| *set).map(|(field, _)| *field);
    let Some(first) = set.next() else {
        causes.push(Cause::required(path, "must specify a volume type"));
        return;
    };
    source(volume, first, &path.child(first), causes);
    causes.extend(
        set.map(|field| Cause::forbidden(&path.child(field), "may not specify more than 1 volume type")),
    );
}

fn source(volume: &api::Volume, field: &str, path: &Path, causes: &mut Vec<Cause>) {
    match field {
        "emptyDir" => {
            let limit = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref());
            if limit.is_some_and(|limit| limit.0.starts_with('-')) {
                let why = "SizeLimit field must be a valid resource quantity";
                causes.push(Cause::forbidden(&path.child("sizeLimit"), why));
            }
        }
        "hostPath" => {
            if let Some(source) = &volume.host_path {
                host_path(source, path, causes);
            }
        }
        "configMap" => {
            if let Some(source) = &volume.config_map {
                required(&source.name, &path.child("name"), causes);
                mode(source.default_mode, &path.child("defaultMode"), causes);
                items(source.items.as_deref().unwrap_or_default(), &path.child("items"), causes);
            }
        }
        "secret" => {
            if let Some(source) = &volume.secret {
                required(
                    source.secret_name.as_deref().unwrap_or_default(),
                    &path.child("secretName"),
                    causes,
                );
                mode(source.default_mode, &path.child("defaultMode"), causes);
                items(source.items.as_deref().unwrap_or_default(), &path.child("items"), causes);
            }
        }
        "downwardAPI" => {
            if let Some(source) = &volume.downward_api {
                mode(source.default_mode, &path.child("defaultMode"), causes);
                downward(source.items.as_deref().unwrap_or_default(), &path.child("items"), causes);
            }
        }
        "projected" => {
            if let Some(source) = &volume.projected {
                projected(source, path, causes);
            }
        }
        "image" => {
            if let Some(source) = &volume.image {
                required(source.reference.as_deref().unwrap_or_default(), &path.child("reference"), causes);
                let policies = ["Always", "IfNotPresent", "Never"];
                super::one_of(&path.child("pullPolicy"), source.pull_policy.as_ref(), &policies, causes);
            }
        }
        _ => {}
    }
}

fn required(value: &str, path: &Path, causes: &mut Vec<Cause>) {
    if value.is_empty() {
        causes.push(Cause::required(path, ""));
    }
}

fn host_path(source: &api::HostPathVolumeSource, path: &Path, causes: &mut Vec<Cause>) {
    let at = path.child("path");
    required(&source.path, &at, causes);
    super::invalid_text(&at, &source.path, names::dots(&source.path), causes);
    let types =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    super::one_of(&path.child("type"), source.type_.as_ref(), &types, causes);
}

fn mode(mode: Option<i32>, path: &Path, causes: &mut Vec<Cause>) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        causes.push(Cause::invalid_raw(path, mode, why));
    }
}

fn items(items: &[api::KeyToPath], path: &Path, causes: &mut Vec<Cause>) {
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        required(&item.key, &path.child("key"), causes);
        file_path(&item.path, &path.child("path"), causes);
        mode(item.mode, &path.child("mode"), causes);
    }
}

fn file_path(file: &str, path: &Path, causes: &mut Vec<Cause>) {
    required(file, path, causes);
    let mut reasons = descending_path(file);
    // Names that start with two dots belong to the volume itself.
    if file.starts_with("..") && !file.starts_with("../") {
        reasons.push("must not start with '..'".to_owned());
    }
    super::invalid_text(path, file, reasons, causes);
}

fn downward(items: &[api::DownwardAPIVolumeFile], path: &Path, causes: &mut Vec<Cause>) {
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        file_path(&item.path, &path.child("path"), causes);
        match (&item.field_ref, &item.resource_field_ref) {
            (Some(_), Some(_)) => {
                causes.push(Cause::invalid(
                    &path,
                    "",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                ));
            }
            (Some(field), None) => env::field_ref(field, env::VOLUME_FIELDS, &path.child("fieldRef"), causes),
            (None, Some(field)) => {
                let path = path.child("resourceFieldRef");
                required(
                    field.container_name.as_deref().unwrap_or_default(),
                    &path.child("containerName"),
                    causes,
                );
                env::resource_ref(field, &path, causes);
            }
            (None, None) => {
                causes.push(Cause::required(&path, "one of fieldRef and resourceFieldRef is required"));
            }
        }
        mode(item.mode, &path.child("mode"), causes);
    }
}

fn projected(source: &api::ProjectedVolumeSource, path: &Path, causes: &mut Vec<Cause>) {
    mode(source.default_mode, &path.child("defaultMode"), causes);
    let mut taken: Vec<&str> = Vec::new();
    for (index, part) in source.sources.iter().flatten().enumerate() {
        let at = path.child("sources").index(index);
        let mut files: Vec<&str> = Vec::new();
        let mut owner = "";
        if let Some(map) = &part.config_map {
            owner = &map.name;
            required(owner, &at.child("configMap").child("name"), causes);
            let list = map.items.as_deref().unwrap_or_default();
            items(list, &at.child("configMap").child("items"), causes);
            files.extend(list.iter().map(|item| item.path.as_str()));
        }
        if let Some(secret) = &part.secret {
            owner = &secret.name;
            required(owner, &at.child("secret").child("name"), causes);
            let list = secret.items.as_deref().unwrap_or_default();
            items(list, &at.child("secret").child("items"), causes);
            files.extend(list.iter().map(|item| item.path.as_str()));
        }
        if let Some(source) = &part.downward_api {
            let list = source.items.as_deref().unwrap_or_default();
            downward(list, &at.child("downwardAPI").child("items"), causes);
            files.extend(list.iter().map(|item| item.path.as_str()));
        }
        if let Some(token) = &part.service_account_token {
            files.push(&token.path);
        }
        for file in files {
            if !file.is_empty() && taken.contains(&file) {
                causes.push(Cause::invalid(path, owner, "conflicting duplicate paths").at(&at));
            }
            taken.push(file);
        }
    }
}
