//! Pods on disk: what was asked for, how it stands, what happened.
//!
//! ```text
//! <data>/names/<namespace>_<name>      the UID that has the name
//! <data>/claims/<uid>                  what an admitted Pod holds of the node
//! <data>/pods/<uid>/record.json        what was asked for; written before anything is made, and again for annotations
//! <data>/pods/<uid>/status.json        status, events and deletion as last published
//! <data>/pods/<uid>/state.json         the state machine, for a supervisor that takes over
//! <data>/pods/<uid>/journal*.jsonl     what the state machine was told and what it decided, for a replay
//! ```
//!
//! A Pod exists from the moment its `record.json` stands to the moment that file is removed. Everything else of podrun's
//! own that is about a Pod without that file was left by a process that was killed while it made or removed the Pod;
//! [`Records::sweep`] removes it.
//!
//! A `record.json` that cannot be read keeps its Pod: it is reported, hides no other, and its name and UID are enough
//! to remove it. A `status.json` that cannot be read is reported and written again by the supervisor. A `state.json` that
//! cannot be read keeps a new supervisor from taking over, since it would have to guess; the Pod can be removed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use podrun_plan::facts::UnenforcedLimits;
use podrun_spec::WirePod;
use podrun_spec::model::{Object, Pod};
use podrun_spec::status::{Phase, PodStatus};
use podrun_spec::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::events::EventRecord;
use crate::options::{PidsLimit, PodOptions};
use crate::paths::{Paths, create_private_dir, is_temporary, lock, remove_file, write_atomically};

const VERSION: u32 = 1;

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
    /// Returns the record with other annotations, or what is wrong with them.
    pub(crate) fn annotated(
        &self,
        changes: &BTreeMap<String, Option<String>>,
    ) -> std::result::Result<Self, Vec<String>> {
        Ok(Self { pod: self.pod.with_annotations(changes)?, ..self.clone() })
    }

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
    /// Nothing is left to do for the Pod: its supervisor has not died but ended.
    #[serde(default)]
    pub finished: bool,
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
        create_private_dir(&self.names())?;
        // The name comes first: a name without a Pod is free, while a Pod without its name could not be asked for.
        write_atomically(&self.name_path(namespace, name), record.uid.as_bytes(), false)?;
        write_json(&dir.join("record.json"), &record, false)?;
        drop(lock);
        Ok(record)
    }

    /// Writes another record of a Pod that has one. Only the Pod's supervisor may, or whoever has its lock.
    pub(crate) fn replace(&self, record: &Record) -> Result<()> {
        write_json(&self.paths.pod_data(&record.uid).join("record.json"), record, true)
    }

    /// Waits until the record and the name of a Pod are on the disk.
    ///
    /// Creating a Pod does not wait for that: it survives the death of any process, and with the machine dies all that
    /// was made for it.
    pub(crate) fn sync(&self, pod: &Pod) -> Result<()> {
        let dir = self.paths.pod_data(&pod.meta.uid);
        let name = self.name_path(&pod.meta.namespace, &pod.meta.name);
        for path in [&dir.join("record.json"), &name, &dir, &self.names()] {
            match File::open(path).and_then(|file| file.sync_all()) {
                // It was removed meanwhile.
                Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(source) => return Err(Error::io("sync", path, source)),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Returns the UID of the Pod of that name.
    pub(crate) fn uid_of(&self, namespace: &str, name: &str) -> Result<Option<String>> {
        use std::io::ErrorKind;
        // What no Pod can be called is no path either.
        if namespace.contains('/') || name.contains('/') {
            return Ok(None);
        }
        let path = self.name_path(namespace, name);
        let uid = match fs::read_to_string(&path) {
            Ok(uid) => uid,
            Err(source) if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename) => {
                return Ok(None);
            }
            Err(source) => return Err(Error::io("read", &path, source)),
        };
        // A name without a record was left by somebody who was killed: it is free.
        Ok(self.exists(&uid).then_some(uid))
    }

    /// Returns the namespace and name under which a Pod was created, without its record.
    pub(crate) fn name_of(&self, uid: &str) -> Option<(String, String)> {
        let entries = fs::read_dir(self.names()).ok()?.filter_map(std::result::Result::ok);
        let mut named =
            entries.filter(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| text == uid));
        let file = named.next()?.file_name();
        let (namespace, name) = file.to_str()?.split_once('_')?;
        Some((namespace.to_owned(), name.to_owned()))
    }

    /// Returns whether there is a Pod of that UID.
    pub(crate) fn exists(&self, uid: &str) -> bool {
        // What is no name of a directory leads elsewhere.
        is_uid(uid) && self.paths.pod_data(uid).join("record.json").exists()
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
            let uid = entry.file_name().to_string_lossy().into_owned();
            if self.exists(&uid) {
                uids.push(uid);
            }
        }
        uids.sort();
        Ok(uids)
    }

    pub(crate) fn load(&self, uid: &str) -> Result<Record> {
        let path = self.paths.pod_data(uid).join("record.json");
        let record = read_json::<Record>(&path)?.ok_or_else(|| Error::Gone { uid: uid.to_owned() })?;
        if record.uid == uid {
            Ok(record)
        } else {
            Err(Error::corrupt(&path, format!("it is the record of Pod {}", record.uid)))
        }
    }

    pub(crate) fn published(&self, uid: &str) -> Result<Published> {
        Ok(read_json(&self.paths.pod_data(uid).join("status.json"))?.unwrap_or_default())
    }

    pub(crate) fn publish(&self, uid: &str, published: &Published, durable: bool) -> Result<()> {
        write_json(&self.paths.pod_data(uid).join("status.json"), published, durable)
    }

    /// Removes the record and everything the engine itself keeps of a Pod. May be repeated.
    pub(crate) fn remove(&self, pod: &Pod) -> Result<()> {
        let lock = match self.lock() {
            // Where somebody has removed everything nobody can give names either.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            lock => Some(lock?),
        };
        let meta = &pod.meta;
        remove_tree(&self.paths.pod_logs(&meta.namespace, &meta.name, &meta.uid))?;
        // With the record the Pod ceases to be; what a removal that is cut short leaves after that is swept up.
        remove_file(&self.paths.pod_data(&meta.uid).join("record.json"))?;
        remove_tree(&self.paths.pod_data(&meta.uid))?;
        Claims::new(&self.paths).release(&meta.uid)?;
        // Its lock goes last: until now nobody else may look after it.
        remove_tree(&self.paths.supervisor(&meta.uid))?;
        let name = self.name_path(&meta.namespace, &meta.name);
        if fs::read_to_string(&name).is_ok_and(|uid| uid == meta.uid) {
            remove_file(&name)?;
        }
        drop(lock);
        Ok(())
    }

    /// Removes what processes have left that were killed while they made or removed a Pod.
    ///
    /// Under the lock of names nobody is at it, so whatever is about a Pod without a record is such a remnant.
    pub(crate) fn sweep(&self) -> Result<()> {
        if self.remnants()?.is_empty() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.remnants()?.iter().try_for_each(|path| remove_tree(path))
    }

    fn remnants(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let (pods, supervisors) = (self.paths.pod_data(""), self.paths.supervisor(""));
        let claims = Claims::new(&self.paths).files()?;
        for path in list(&pods)?.into_iter().chain(list(&supervisors)?).chain(claims) {
            if !self.exists(&file_name(&path)) {
                found.push(path);
            }
        }
        for path in list(&self.names())? {
            // One that has just been removed is nothing to remove.
            let Ok(uid) = fs::read_to_string(&path) else { continue };
            if is_temporary(&file_name(&path)) || !self.exists(&uid) {
                found.push(path);
            }
        }
        for path in list(&self.paths.data.join("logs"))? {
            if !file_name(&path).rsplit_once('_').is_some_and(|(_, uid)| self.exists(uid)) {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Returns the directory of names.
    pub(crate) fn names(&self) -> PathBuf {
        self.paths.data.join("names")
    }

    fn name_path(&self, namespace: &str, name: &str) -> PathBuf {
        // Neither part may hold an underscore or a slash: both are validated DNS names.
        self.names().join(format!("{namespace}_{name}"))
    }

    /// Takes the lock under which names are given and taken back; released on drop.
    fn lock(&self) -> Result<File> {
        lock(&self.paths.data)
    }
}

/// Returns a Pod with nothing but a name and a UID, to remove one whose record cannot be read.
pub(crate) fn stand_in(
    paths: &Paths,
    uid: &str,
    namespace: &str,
    name: &str,
    supervised: bool,
) -> Result<PodView> {
    let manifest = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name },
        "spec": { "containers": [{ "name": "unknown", "image": "unknown" }] },
    });
    let path = paths.pod_data(uid).join("record.json");
    let parsed = podrun_spec::parse("record.json", &manifest.to_string())
        .map_err(|source| Error::corrupt(&path, source))?;
    let missing = || Error::corrupt(&path, "a Pod cannot be made of its name");
    let podrun_spec::ParsedPod { mut pod, wire } = parsed.pods.into_iter().next().ok_or_else(missing)?;
    uid.clone_into(&mut pod.meta.uid);
    let options = PodOptions {
        unenforced_limits: UnenforcedLimits::Warn,
        pod_pids_limit: PidsLimit::Unlimited,
        ..PodOptions::new(String::new())
    };
    let mut published = Published::default();
    published.status.phase = Phase::Unknown;
    Ok(PodView { pod, wire, created: Timestamp(0), options, published, supervised })
}

/// Removes a directory of podrun's own records; fine if it is not there.
///
/// Volumes and root file systems, which containers write to, were removed by the sandbox through directory fds.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    podrun_sandbox::remove_tree(path).map_err(|error| Error::Remove(vec![error]))
}

/// Returns the paths in a directory; none if it is not there.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries.filter_map(std::result::Result::ok).map(|entry| entry.path()).collect()),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::io("list", dir, source)),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns whether a text may be a UID: it becomes a part of paths.
fn is_uid(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
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

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> (tempfile::TempDir, Records) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        paths.create().unwrap();
        (dir, Records::new(paths))
    }

    fn create(records: &Records, uid: &str, name: &str) -> Result<PodView> {
        let view = stand_in(&records.paths, uid, "default", name, false)?;
        let (wire, options) = (view.wire.clone(), view.options.clone());
        records.create(&view.pod, wire, Vec::new(), options, Timestamp(0))?;
        Ok(view)
    }

    #[test]
    fn a_name_is_taken_by_one_pod_and_free_after_its_removal() {
        let (_dir, records) = records();
        let view = create(&records, "u-1", "web").unwrap();
        assert_eq!(records.uid_of("default", "web").unwrap().as_deref(), Some("u-1"));
        assert_eq!(records.name_of("u-1"), Some(("default".to_owned(), "web".to_owned())));
        let taken = create(&records, "u-2", "web").unwrap_err();
        assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken}");
        records.remove(&view.pod).unwrap();
        records.remove(&view.pod).unwrap();
        assert_eq!(records.uids().unwrap(), Vec::<String>::new());
        create(&records, "u-2", "web").unwrap();
        assert_eq!(records.uids().unwrap(), ["u-2"]);
    }

    #[test]
    fn what_is_about_no_pod_is_swept_up_and_nothing_else() {
        let (dir, records) = records();
        create(&records, "u-1", "web.tmp").unwrap();
        let root = dir.path();
        let kept = ["run/supervisors/u-1/lock", "data/logs/default_web.tmp_u-1/c/0.log"];
        let swept = [
            "data/pods/u-2/status.json",
            "data/pods/u-3/volumes/v/file",
            "data/names/default_gone",
            "data/names/.default_web.tmp.tmp",
            "data/logs/default_gone_u-2/c/0.log",
            "data/claims/u-2",
            "run/supervisors/u-2/lock",
        ];
        for path in kept.iter().chain(&swept) {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "u-2").unwrap();
        }
        records.sweep().unwrap();
        for path in kept {
            assert!(root.join(path).exists(), "{path}");
        }
        for path in swept {
            assert!(!root.join(path).exists(), "{path}");
        }
        assert_eq!(records.uid_of("default", "web.tmp").unwrap().as_deref(), Some("u-1"));
        assert_eq!(records.load("u-1").unwrap().uid, "u-1");
    }

    #[test]
    fn a_record_in_the_place_of_another_is_refused() {
        let (_dir, records) = records();
        create(&records, "u-1", "web").unwrap();
        let (from, to) = (records.paths.pod_data("u-1"), records.paths.pod_data("u-2"));
        fs::create_dir(&to).unwrap();
        fs::copy(from.join("record.json"), to.join("record.json")).unwrap();
        assert!(matches!(records.load("u-2"), Err(Error::Corrupt { .. })));
        assert!(matches!(records.load("u-3"), Err(Error::Gone { .. })));
    }
}
