//! The engine as its callers see it: create, launch, look at and remove Pods.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use podrun_image::Store;
use podrun_plan::model::Plan;
use podrun_spec::WirePod;
use podrun_spec::model::{Object, Pod};
use podrun_spec::status::Phase;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::launch::fork_supervisor;
use crate::paths::{Paths, create_private_dir};
use crate::record::{PodOptions, PodView, Published, Records};
use crate::supervisor::{self, SupervisorLock};
use crate::{clock, facts};

/// What the files of a cgroup hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupReadBack {
    /// Path below the cgroup2 mount.
    pub path: String,
    /// Files and their text.
    pub values: Vec<(String, String)>,
}

/// All Pods below one pair of state directories.
#[derive(Clone, Debug)]
pub struct Engine {
    paths: Paths,
    init: PathBuf,
    records: Records,
}

impl Engine {
    /// Returns the engine of these directories. `init` is the path of the `podrun-init` program.
    pub fn new(paths: Paths, init: PathBuf) -> Self {
        Self { records: Records::new(paths.clone()), paths, init }
    }

    /// Returns where state is kept.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Opens the image store.
    ///
    /// # Errors
    /// Any errno of making or reading its directory; a store of a newer version.
    pub fn images(&self) -> Result<Store> {
        create_private_dir(&self.paths.data)?;
        Store::open(&self.paths.images()).map_err(Error::Image)
    }

    /// Returns what would be done for a Pod on this host, without doing it.
    ///
    /// # Errors
    /// [`Error::Unplannable`] with everything that this host cannot do.
    pub fn plan(&self, pod: &Pod, options: &PodOptions) -> Result<Plan> {
        supervisor::make_plan(pod, &facts::host_facts(&self.paths, options)?)
    }

    /// Records a Pod under a new UID. Nothing is made in the kernel yet.
    ///
    /// # Errors
    /// [`Error::Unplannable`] where this host cannot do what it asks for; [`Error::AlreadyExists`]; any errno of
    /// writing the record.
    pub fn create(
        &self,
        mut pod: Pod,
        wire: WirePod,
        objects: Vec<Object>,
        options: PodOptions,
    ) -> Result<PodView> {
        pod.meta.uid = new_uid()?;
        pod.meta.generation = 1;
        self.plan(&pod, &options)?;
        self.paths.create()?;
        let created = clock::wall();
        let wire = wire.with_metadata(&pod.meta.uid, created, pod.meta.generation, None);
        let record = self.records.create(&pod, wire, objects, options, created)?;
        create_private_dir(&self.paths.supervisor(&pod.meta.uid))?;
        Ok(PodView {
            pod,
            wire: record.pod,
            created,
            options: record.options,
            published: Published::default(),
            supervised: false,
        })
    }

    /// Starts the supervisor of a Pod as a process of its own and returns when it has taken over.
    ///
    /// The process is forked from this one, which must have a single thread.
    ///
    /// # Errors
    /// [`Error::Launch`] with EBUSY in a process with several threads; [`Error::SupervisorEnded`].
    pub fn launch(&self, uid: &str) -> Result<()> {
        create_private_dir(&self.paths.supervisor(uid))?;
        let log = self.paths.pod_data(uid).join("supervisor.log");
        let launched = fork_supervisor(&log, |ready| supervisor::run(&self.paths, &self.init, uid, ready));
        match launched {
            // Two looked after the Pod at the same time, and the other one was quicker.
            Err(Error::SupervisorEnded { .. }) if SupervisorLock::is_held(&self.paths.supervisor(uid)) => {
                Ok(())
            }
            launched => launched,
        }
    }

    /// Starts a supervisor for each Pod that should have one and has none.
    ///
    /// A supervisor may be killed at any instruction; the Pod goes on without it, and the next one takes over.
    ///
    /// # Errors
    /// As [`Engine::launch`], for the first Pod for which it fails.
    pub fn revive(&self) -> Result<()> {
        for view in self.pods()? {
            if !view.supervised && !view.published.status.phase.is_terminal() {
                self.launch(&view.pod.meta.uid)?;
            }
        }
        Ok(())
    }

    /// Returns all Pods, sorted by namespace and name.
    ///
    /// # Errors
    /// Any errno of reading a record; [`Error::Corrupt`].
    pub fn pods(&self) -> Result<Vec<PodView>> {
        let mut views = Vec::new();
        for uid in self.records.uids()? {
            match self.view(&uid) {
                Ok(view) => views.push(view),
                // It was removed between the listing and the reading.
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        views.sort_by(|a, b| {
            (&a.pod.meta.namespace, &a.pod.meta.name).cmp(&(&b.pod.meta.namespace, &b.pod.meta.name))
        });
        Ok(views)
    }

    /// Returns the Pod of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`]; as [`Engine::pods`].
    pub fn pod(&self, namespace: &str, name: &str) -> Result<PodView> {
        let not_found = || Error::NotFound { namespace: namespace.to_owned(), name: name.to_owned() };
        let uid = self.records.uid_of(namespace, name)?.ok_or_else(not_found)?;
        self.view(&uid)
    }

    /// Connects to the supervisor of a Pod.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with ENOENT or ECONNREFUSED where there is none.
    pub fn connect(&self, pod: &Pod) -> Result<Client> {
        Client::connect(&pod.meta, &self.paths.supervisor(&pod.meta.uid))
    }

    /// Removes a Pod that has ended: what may be left of it in the kernel, then its records. May be repeated.
    ///
    /// # Errors
    /// The first thing that could not be removed; the rest was tried all the same.
    pub fn remove(&self, view: &PodView) -> Result<()> {
        // Held to the end, so that no supervisor takes over a Pod that is being removed.
        let _lock = SupervisorLock::acquire(&self.paths.supervisor(&view.pod.meta.uid))?;
        supervisor::remove_kernel_objects(&self.paths, view)?;
        self.records.remove(&view.pod)
    }

    /// Returns the directory of a container's logs: one `<attempt>.log` for each start.
    pub fn log_dir(&self, pod: &Pod, container: &str) -> PathBuf {
        self.paths.pod_logs(&pod.meta.namespace, &pod.meta.name, &pod.meta.uid).join(container)
    }

    /// Reads back what a Pod's cgroup and those of its running containers hold, file by file, for what was planned.
    ///
    /// Cgroups and files that are not there are left out.
    pub fn cgroup_values(&self, view: &PodView) -> Vec<CgroupReadBack> {
        let Ok((plan, host)) = supervisor::plan_leniently(&self.paths, view) else { return Vec::new() };
        let running = view
            .published
            .status
            .container_statuses
            .iter()
            .chain(&view.published.status.init_container_statuses);
        let attempts = running.filter_map(|status| {
            let attempt = status.container_id.rsplit_once('_')?.1.to_owned();
            let planned = plan.container(&status.name)?;
            Some((format!("{}.{attempt}", planned.cgroup.path), &planned.cgroup.values))
        });
        std::iter::once((plan.sandbox.cgroup.path.clone(), &plan.sandbox.cgroup.values))
            .chain(attempts)
            .filter_map(|(path, values)| {
                let dir = host.cgroup.mount.join(&path);
                let read = |file: &str| {
                    let text = fs::read_to_string(dir.join(file)).ok()?;
                    Some((file.to_owned(), text.trim_end().to_owned()))
                };
                let values: Vec<_> = values.iter().filter_map(|v| read(&v.file)).collect();
                dir.exists().then_some(CgroupReadBack { path, values })
            })
            .collect()
    }

    fn view(&self, uid: &str) -> Result<PodView> {
        let record = self.records.load(uid)?;
        let path = self.paths.pod_data(uid).join("record.json");
        let pod = record.to_pod(&path)?;
        // The lock is looked at first: a supervisor publishes its last status before it lets go.
        let supervised = SupervisorLock::is_held(&self.paths.supervisor(uid));
        let mut published = self.records.published(uid)?;
        if !supervised && !published.status.phase.is_terminal() {
            published.status.phase = Phase::Unknown;
        }
        Ok(PodView {
            pod,
            wire: record.pod,
            created: record.created,
            options: record.options,
            published,
            supervised,
        })
    }
}

/// Returns a random UUID (RFC 9562, version 4).
fn new_uid() -> Result<String> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0u8; 16];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|source| Error::io("read", path, source))?;
    Ok(format_uuid(bytes))
}

fn format_uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_a_version_4_uuid() {
        assert_eq!(format_uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_ne!(new_uid().unwrap(), new_uid().unwrap());
    }
}
