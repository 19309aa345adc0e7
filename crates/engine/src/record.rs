//! Pods on disk: what was asked for, how it stands, what happened.
//!
//! ```text
//! <data>/names/<namespace>_<name>      the UID that has the name
//! <data>/pods/<uid>/record.json        what was asked for; written once, before anything is made
//! <data>/pods/<uid>/status.json        status, events and deletion as last published
//! <data>/pods/<uid>/state.json         the state machine, for a supervisor that takes over
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use podrun_plan::facts::UnenforcedLimits;
use podrun_spec::WirePod;
use podrun_spec::model::{Object, Pod};
use podrun_spec::status::PodStatus;
use podrun_spec::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::events::EventRecord;
use crate::paths::{Paths, create_private_dir, open_lock, remove_file, write_atomically};

const VERSION: u32 = 1;

/// How a Pod is to be run, beyond what its manifest says. Fixed when the Pod is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodOptions {
    /// This machine's name.
    pub node_name: String,
    /// What to do with limits that the host cannot enforce.
    pub unenforced_limits: UnenforcedLimits,
    /// Processes that the Pod may have.
    pub pod_pids_limit: PidsLimit,
    /// Write memory.high and reservations from requests.
    pub memory_qos: bool,
    /// Remove the Pod when it has ended.
    pub remove_when_finished: bool,
}

/// How many processes a Pod may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidsLimit {
    /// 4096 where the pids controller is available, unlimited where it is not.
    #[default]
    Default,
    /// As many as the machine can hold.
    Unlimited,
    /// So many, or the Pod is told that it is not enforced.
    Limit(u64),
}

impl PidsLimit {
    /// What [`PidsLimit::Default`] means: more than a Pod of threads needs, less than a fork bomb wants.
    const DEFAULT: u64 = 4096;

    /// Returns the limit on a host with or without the pids controller.
    pub(crate) const fn on_host(self, has_controller: bool) -> Option<u64> {
        match self {
            Self::Default if has_controller => Some(Self::DEFAULT),
            Self::Default | Self::Unlimited => None,
            Self::Limit(limit) => Some(limit),
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    version: u32,
    /// The Pod's UID.
    pub(crate) uid: String,
    /// When it was created.
    pub(crate) created: Timestamp,
    /// How to run it.
    pub(crate) options: PodOptions,
    /// The manifest, defaulted.
    pub(crate) pod: WirePod,
    /// ConfigMaps and Secrets that came with it.
    pub(crate) objects: Vec<Object>,
}

impl Record {
    /// Returns the Pod as it was meant, with its UID. `path` is for the error.
    pub(crate) fn to_pod(&self, path: &Path) -> Result<Pod> {
        let (mut pod, _) =
            podrun_spec::from_json(self.pod.to_json()).map_err(|source| Error::corrupt(path, source))?;
        self.uid.clone_into(&mut pod.meta.uid);
        pod.meta.generation = 1;
        Ok(pod)
    }
}

/// That a Pod is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// When the containers have to be gone.
    pub at: Timestamp,
    /// Seconds between the wish and that time.
    pub grace_seconds: u64,
}

/// How a Pod stands, as its supervisor last published it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The status.
    pub status: PodStatus,
    /// Set once the Pod is being deleted.
    pub deletion: Option<Deletion>,
    /// Events, the latest last.
    pub events: Vec<EventRecord>,
}

/// A Pod with its record: what commands look at.
#[derive(Clone, Debug)]
pub struct PodView {
    /// The Pod as it was meant; its UID is set.
    pub pod: Pod,
    /// The manifest, defaulted.
    pub wire: WirePod,
    /// When it was created.
    pub created: Timestamp,
    /// How it is run.
    pub options: PodOptions,
    /// How it stands. Its phase is Unknown where the supervisor should be there and is not.
    pub published: Published,
    /// Whether a supervisor looks after it.
    pub supervised: bool,
}

/// The Pods below one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    paths: Paths,
}

impl Records {
    pub(crate) fn new(paths: Paths) -> Self {
        Self { paths }
    }

    /// Claims the name and writes the record. Everything made later is named after the UID in it.
    pub(crate) fn create(
        &self,
        pod: &Pod,
        wire: WirePod,
        objects: Vec<Object>,
        options: PodOptions,
        created: Timestamp,
    ) -> Result<Record> {
        let lock = self.lock()?;
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        if self.uid_of(namespace, name)?.is_some() {
            return Err(Error::AlreadyExists { namespace: namespace.clone(), name: name.clone() });
        }
        let record =
            Record { version: VERSION, uid: pod.meta.uid.clone(), created, options, pod: wire, objects };
        let dir = self.paths.pod_data(&record.uid);
        create_private_dir(&dir)?;
        write_json(&dir.join("record.json"), &record, true)?;
        let names = self.paths.data.join("names");
        create_private_dir(&names)?;
        write_atomically(&self.name_path(namespace, name), record.uid.as_bytes(), true)?;
        drop(lock);
        Ok(record)
    }

    /// Returns the UID of the Pod of that name.
    pub(crate) fn uid_of(&self, namespace: &str, name: &str) -> Result<Option<String>> {
        let path = self.name_path(namespace, name);
        let uid = match fs::read_to_string(&path) {
            Ok(uid) => uid,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("read", &path, source)),
        };
        // A name whose record is gone was left by a removal that was cut short: it is free.
        Ok(self.paths.pod_data(&uid).join("record.json").exists().then_some(uid))
    }

    /// Returns the UIDs of all Pods.
    pub(crate) fn uids(&self) -> Result<Vec<String>> {
        let dir = self.paths.data.join("pods");
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::io("list", &dir, source)),
        };
        let mut uids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| Error::io("list", &dir, source))?;
            if entry.path().join("record.json").exists() {
                uids.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        uids.sort();
        Ok(uids)
    }

    pub(crate) fn load(&self, uid: &str) -> Result<Record> {
        let path = self.paths.pod_data(uid).join("record.json");
        read_json::<Record>(&path)?
            .ok_or_else(|| Error::io("read", &path, std::io::Error::from(std::io::ErrorKind::NotFound)))
    }

    pub(crate) fn published(&self, uid: &str) -> Result<Published> {
        Ok(read_json(&self.paths.pod_data(uid).join("status.json"))?.unwrap_or_default())
    }

    pub(crate) fn publish(&self, uid: &str, published: &Published, durable: bool) -> Result<()> {
        write_json(&self.paths.pod_data(uid).join("status.json"), published, durable)
    }

    /// Removes the record and everything the engine itself keeps of a Pod. May be repeated.
    pub(crate) fn remove(&self, pod: &Pod) -> Result<()> {
        let lock = self.lock()?;
        let meta = &pod.meta;
        remove_tree(&self.paths.pod_logs(&meta.namespace, &meta.name, &meta.uid))?;
        remove_tree(&self.paths.supervisor(&meta.uid))?;
        // The record goes before its directory, so that a removal cut short leaves no half a Pod to list.
        remove_file(&self.paths.pod_data(&meta.uid).join("record.json"))?;
        remove_tree(&self.paths.pod_data(&meta.uid))?;
        let name = self.name_path(&meta.namespace, &meta.name);
        if fs::read_to_string(&name).is_ok_and(|uid| uid == meta.uid) {
            remove_file(&name)?;
        }
        drop(lock);
        Ok(())
    }

    fn name_path(&self, namespace: &str, name: &str) -> PathBuf {
        // Neither part may hold an underscore or a slash: both are validated DNS names.
        self.paths.data.join("names").join(format!("{namespace}_{name}"))
    }

    /// Takes the lock under which names are given and taken back; released on drop.
    fn lock(&self) -> Result<File> {
        let path = self.paths.data.join("lock");
        let file = open_lock(&path)?;
        file.lock().map_err(|source| Error::io("lock", &path, source))?;
        Ok(file)
    }
}

/// Removes a directory of podrun's own records; fine if it is not there.
///
/// Volumes and root file systems, which containers write to, were removed by the sandbox through directory fds.
fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize, durable: bool) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|source| Error::corrupt(path, source))?;
    write_atomically(path, &text, durable)
}

/// Returns none where the file is not there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io("read", path, source)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|source| Error::corrupt(path, source))
}
