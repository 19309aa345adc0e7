//! The engine as its callers see it: create, launch, look at and remove Pods.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use podrun_image::Store;
use podrun_image::registry::{Keyring, Registries};
use podrun_plan::model::{Plan, Unenforced};
use podrun_sandbox::protocol::ExecTarget;
use podrun_sandbox::{Exec, Execs, Stdio};
use podrun_spec::WirePod;
use podrun_spec::model::{Object, Pod};
use podrun_spec::status::Phase;

use crate::changes::PodChanges;
use crate::client::Client;
use crate::clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::facts::Host;
use crate::launch::{Waiting, fork_waiting};
use crate::options::PodOptions;
use crate::paths::{self, JOURNAL, OLD_JOURNAL, Paths, create_private_dir};
use crate::planning;
use crate::record::{self, PodView, Published, Records};
use crate::registries;
use crate::supervisor::{self, SupervisorLock};
use crate::usage;

/// How long a supervisor may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often to look meanwhile.
const INTERVAL: Duration = Duration::from_millis(2);

/// Beginning of the name under which a Pod leases its images; its UID follows.
pub(crate) const LEASE: &str = "pod-";

/// Returns the name under which a Pod leases its images.
pub fn lease_of(uid: &str) -> String {
    format!("{LEASE}{uid}")
}

/// Gives back the images of a Pod that mounts none any more.
pub(crate) fn release_images(paths: &Paths, uid: &str) -> Result<()> {
    if !paths.images().exists() {
        return Ok(());
    }
    Store::open(&paths.images()).and_then(|store| store.release(&lease_of(uid))).map_err(Error::Image)
}

/// A process that will be a Pod's supervisor. Dropped before that, it ends.
#[derive(Debug)]
pub struct Launcher {
    engine: Engine,
    waiting: Waiting,
}

impl Launcher {
    /// Gives the process its Pod and returns when it has taken over. A Pod that has a supervisor already keeps it.
    ///
    /// # Errors
    /// [`Error::SupervisorEnded`]; [`Error::Gone`].
    pub fn launch(self, uid: &str) -> Result<()> {
        let log = self.engine.paths.supervisor_log(uid);
        match self.waiting.supervise(uid, &log) {
            // It may have been removed at any moment of this, and then why it failed is not interesting.
            Err(_) if !self.engine.records.exists(uid) => Err(Error::Gone { uid: uid.to_owned() }),
            launched => launched,
        }
    }
}

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
    pub(crate) paths: Paths,
    pub(crate) init: PathBuf,
    records: Records,
    host: OnceLock<Host>,
}

impl Engine {
    /// Returns the engine of these directories. `init` is the path of the `podrun-init` program.
    pub fn new(paths: Paths, init: PathBuf) -> Self {
        Self { records: Records::new(paths.clone()), paths, init, host: OnceLock::new() }
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

    /// Returns what `registries.toml` says about registries, and the credentials that this machine has for them.
    ///
    /// # Errors
    /// [`Error::Registries`] and [`Error::Credentials`] for files that are not what they should be.
    pub fn registries(&self) -> Result<(Registries, Keyring)> {
        let registries = registries::registries(&self.paths)?;
        let keyring = registries::credentials(&self.paths, &registries)?;
        Ok((registries, keyring))
    }

    /// Returns what would be done for a Pod on this host, without doing it.
    ///
    /// # Errors
    /// [`Error::Unplannable`] with everything that this host cannot do.
    pub fn plan(&self, pod: &Pod, options: &PodOptions) -> Result<Plan> {
        if let Some(fault) = paths::too_long(&pod.meta.namespace, &pod.meta.name) {
            return Err(Error::Unplannable { faults: vec![fault] });
        }
        planning::make_plan(pod, &self.host()?.facts(options)?)
    }

    /// Sees whether a Pod can be created here, and returns the limits that it would have to live without.
    ///
    /// A Pod that a kubelet would reject can be created: it fails at once, with the kubelet's reason.
    ///
    /// # Errors
    /// As [`Engine::plan`].
    pub fn check(&self, pod: &Pod, options: &PodOptions) -> Result<Vec<Unenforced>> {
        self.plan(&planning::without_rejected(pod), options).map(|plan| plan.unenforced)
    }

    /// Returns the configuration file.
    ///
    /// # Errors
    /// Any errno of reading it; [`Error::Config`].
    pub fn config(&self) -> Result<Config> {
        Config::load(&self.paths.config_file())
    }

    /// Returns what becomes readable when a Pod is created or removed.
    ///
    /// # Errors
    /// Any errno of inotify_init1(2), inotify_add_watch(2) or of making the directory.
    pub fn changes(&self) -> Result<PodChanges> {
        PodChanges::new(&self.paths.supervisor(""), &self.records.names())
    }

    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    pub(crate) fn host(&self) -> Result<&Host> {
        match self.host.get() {
            Some(host) => Ok(host),
            None => {
                let host = Host::look(&self.paths)?;
                Ok(self.host.get_or_init(|| host))
            }
        }
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
        self.check(&pod, &options)?;
        self.config()?;
        self.paths.create()?;
        let created = clock::wall();
        let wire = wire.with_metadata(&pod.meta.uid, created, pod.meta.generation, None);
        let record = self.records.create(&pod, wire, objects, options, created)?;
        Ok(PodView {
            pod,
            wire: record.pod,
            created,
            options: record.options,
            published: Published::default(),
            supervised: false,
        })
    }

    /// Forks a process that will be a supervisor and waits for its Pod.
    ///
    /// The earlier in a caller's life, the less memory it takes. The calling process must have a single thread.
    ///
    /// # Errors
    /// [`Error::Launch`] with EBUSY in a process with several threads.
    pub fn launcher(&self) -> Result<Launcher> {
        let waiting = fork_waiting(|order, ready| supervisor::run(self, order, ready))?;
        Ok(Launcher { engine: self.clone(), waiting })
    }

    /// Starts the supervisor of a Pod as a process of its own and returns when it has taken over.
    ///
    /// # Errors
    /// As [`Engine::launcher`] and [`Launcher::launch`].
    pub fn launch(&self, uid: &str) -> Result<()> {
        self.launcher()?.launch(uid)
    }

    /// Returns all Pods, sorted by namespace and name, and those that cannot be read.
    ///
    /// # Errors
    /// Any errno of listing them.
    pub fn pods(&self) -> Result<Pods> {
        let mut pods = Pods::default();
        for uid in self.records.uids()? {
            let fault = match self.view(&uid) {
                Ok((view, fault)) => {
                    pods.views.push(view);
                    fault
                }
                // It was removed between the listing and the reading.
                Err(Error::Gone { .. }) => None,
                Err(error) => Some(error),
            };
            pods.faults.extend(fault.map(|error| {
                let name = self.records.name_of(&uid);
                PodFault { uid, name, error }
            }));
        }
        pods.views.sort_by(|a, b| {
            (&a.pod.meta.namespace, &a.pod.meta.name).cmp(&(&b.pod.meta.namespace, &b.pod.meta.name))
        });
        Ok(pods)
    }

    /// Returns the Pod of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`]; any errno of reading its record; [`Error::Corrupt`].
    pub fn pod(&self, namespace: &str, name: &str) -> Result<PodView> {
        let not_found = || Error::NotFound { namespace: namespace.to_owned(), name: name.to_owned() };
        let uid = self.records.uid_of(namespace, name)?.ok_or_else(not_found)?;
        match self.view(&uid) {
            Err(Error::Gone { .. }) => Err(not_found()),
            view => Ok(view?.0),
        }
    }

    /// Returns what stands for a Pod whose record cannot be read: a Pod of that name and UID and with nothing else.
    ///
    /// That is enough to end it and to remove everything of it, since all names derive from the UID. A Pod that has lost
    /// its name too goes by its UID.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn stand_in(&self, namespace: &str, name: &str) -> Result<PodView> {
        let uid = match self.records.uid_of(namespace, name)? {
            Some(uid) => uid,
            None if self.records.exists(name) => name.to_owned(),
            None => return Err(Error::NotFound { namespace: namespace.to_owned(), name: name.to_owned() }),
        };
        let supervised = SupervisorLock::is_held(&self.paths.supervisor(&uid));
        record::stand_in(&self.paths, &uid, namespace, name, supervised)
    }

    /// Connects to the supervisor of a Pod.
    ///
    /// One that holds the Pod's lock and has no socket is waited for: it is starting, or ending.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with ENOENT or ECONNREFUSED where there is none.
    pub fn connect(&self, pod: &Pod) -> Result<Client> {
        let run_dir = self.paths.supervisor(&pod.meta.uid);
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The lock is looked at first: a supervisor that has ended in between is seen to be gone the next time.
            let held = SupervisorLock::is_held(&run_dir);
            match Client::connect(&pod.meta, &run_dir) {
                Err(Error::Unreachable { source, .. })
                    if held && is_absent(&source) && Instant::now() < deadline =>
                {
                    pause();
                }
                connected => return connected,
            }
        }
    }

    /// Starts a command in a container that runs, as the container's main process was: by the Pod's init, whether the Pod
    /// has a supervisor or not. No state is kept of it.
    ///
    /// # Errors
    /// [`Error::Exec`]: there is no init, or it cannot be told. Why a command was not started, [`Exec::recv`] tells.
    pub fn exec(&self, pod: &Pod, container: &str, args: &[String], stdio: &Stdio<'_>) -> Result<Exec> {
        let failed = |source| Error::Exec { name: pod.meta.name.clone(), source };
        let execs = Execs::in_directory(&self.paths.sandbox(&pod.meta.uid), &pod.meta.uid).map_err(failed)?;
        execs.start(ExecTarget::Name(container.to_owned()), args, stdio).map_err(failed)
    }

    /// Returns the directory of a container's logs: one `<attempt>.log` for each start.
    pub fn log_dir(&self, pod: &Pod, container: &str) -> PathBuf {
        self.paths.pod_logs(&pod.meta.namespace, &pod.meta.name, &pod.meta.uid).join(container)
    }

    /// Returns the files of a Pod's journal that are there, the older one first: see [`podrun_lifecycle::journal`].
    pub fn journal(&self, pod: &Pod) -> Vec<PathBuf> {
        let dir = self.paths.pod_data(&pod.meta.uid);
        [OLD_JOURNAL, JOURNAL].map(|name| dir.join(name)).into_iter().filter(|path| path.exists()).collect()
    }

    /// Reads back what a Pod's cgroup and those of its running containers hold, file by file, for what was planned.
    ///
    /// Cgroups and files that are not there are left out.
    pub fn cgroup_values(&self, view: &PodView) -> Vec<CgroupReadBack> {
        let planned = self.host().and_then(|host| planning::plan_leniently(host, view));
        let Ok((plan, host)) = planned else { return Vec::new() };
        let runs = usage::runs(&plan, view).map(|run| (run.path, run.values));
        std::iter::once((plan.sandbox.cgroup.path.clone(), plan.sandbox.cgroup.values.as_slice()))
            .chain(runs)
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

    /// Returns a Pod, and what is wrong with its status where that cannot be read.
    fn view(&self, uid: &str) -> Result<(PodView, Option<Error>)> {
        let record = self.records.load(uid)?;
        let path = self.paths.pod_data(uid).join("record.json");
        let pod = record.to_pod(&path)?;
        // The lock is looked at first: a supervisor publishes its last status before it lets go.
        let supervised = SupervisorLock::is_held(&self.paths.supervisor(uid));
        let (mut published, fault) = match self.records.published(uid) {
            Ok(published) => (published, None),
            Err(error) => (unknown(), Some(error)),
        };
        if !supervised && !published.status.phase.is_terminal() {
            published.status.phase = Phase::Unknown;
        }
        let view = PodView {
            pod,
            wire: record.pod,
            created: record.created,
            options: record.options,
            published,
            supervised,
        };
        Ok((view, fault))
    }
}

/// All Pods.
#[derive(Debug, Default)]
pub struct Pods {
    /// Those that can be read.
    pub views: Vec<PodView>,
    /// What could not be read of the others, or of some of them.
    pub faults: Vec<PodFault>,
}

/// A Pod of which something cannot be read.
#[derive(Debug)]
pub struct PodFault {
    /// Its UID.
    pub uid: String,
    /// Its namespace and name, where they are known.
    pub name: Option<(String, String)>,
    /// What cannot be read, and why.
    pub error: Error,
}

fn unknown() -> Published {
    let mut published = Published::default();
    published.status.phase = Phase::Unknown;
    published
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

#[expect(
    clippy::disallowed_methods,
    reason = "no event tells that a socket was bound or a lock was let go of"
)]
fn pause() {
    std::thread::sleep(INTERVAL);
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
