//! Making a sandbox, and finding one again.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use podrun_cgroups::{Cgroup, Controllers};
use podrun_namespaces::{Command, Kinds, PidFd};
use podrun_plan::model::{FilePlan, NamespacePlan, Owner, SandboxPlan, VolumeSourcePlan};

use crate::mount::{Attributes, Filesystem};
use crate::protocol::{Channel, Event, InitSetup, Request};
use crate::sandbox::{Adopted, pod_text, reap};
use crate::{InitProgram, Sandbox, SandboxError, cgroup, mount, path, remove};

/// How long init may take for an answer. It answers within milliseconds; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections that wait while init is busy starting containers: each command is one.
const BACKLOG: i32 = 512;

/// The mode of a tmpfs volume, and with a group the bits that the kubelet adds.
const TMPFS_MODE: u32 = 0o1777;
const GROUP_BITS: u32 = 0o2770;

impl Sandbox {
    /// Makes the sandbox of a Pod: its cgroup, its files, its init in new namespaces, its tmpfs volumes.
    ///
    /// Everything is checked before anything is made. What a failure leaves half-made is removed again. The other
    /// volumes are made by [`volumes::prepare`](crate::volumes::prepare).
    ///
    /// # Errors
    ///
    /// [`SandboxError::InvalidPlan`], [`SandboxError::Exists`] if the sandbox lives already, otherwise what could not
    /// be made; [`SandboxError::NotUndone`] if something of it is left.
    pub fn create(
        plan: &SandboxPlan,
        program: &InitProgram,
        cgroup_mount: &Path,
    ) -> Result<Self, SandboxError> {
        Self::create_while(plan, program, cgroup_mount, |_| ()).map(|(sandbox, ())| sandbox)
    }

    /// Makes the sandbox of a Pod as [`create`](Sandbox::create) does, and does something else with its namespaces while
    /// init sets itself up. `meanwhile` gets init's pidfd, and runs only once init is in its namespaces.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Sandbox::create). What `meanwhile` has made is then the caller's to take back.
    pub fn create_while<T>(
        plan: &SandboxPlan,
        program: &InitProgram,
        cgroup_mount: &Path,
        meanwhile: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Result<(Self, T), SandboxError> {
        validate(plan)?;
        if connect_to(plan)?.is_some() {
            return Err(SandboxError::Exists { uid: plan.uid.clone() });
        }
        // Left by a sandbox whose init has died.
        remove::stop(plan, cgroup_mount).map_err(|mut errors| errors.remove(0))?;
        build(plan, program, cgroup_mount, meanwhile).map_err(|first| {
            match remove::stop(plan, cgroup_mount) {
                Ok(()) => first,
                Err(undo) => SandboxError::NotUndone { first: Box::new(first), undo },
            }
        })
    }

    /// Connects to the init of a Pod that another supervisor has left, and takes it over.
    ///
    /// Returns none if there is no living, complete sandbox; remains can be removed with [`stop`](crate::stop).
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoAnswer`] if init is there and silent; [`SandboxError::Channel`].
    pub fn adopt(
        plan: &SandboxPlan,
        cgroup_mount: &Path,
    ) -> Result<Option<(Self, Vec<Adopted>)>, SandboxError> {
        validate(plan)?;
        let Some(socket) = connect_to(plan)? else { return Ok(None) };
        let mut channel = Channel::new(socket);
        let failed = |action| move |source| SandboxError::Channel { action, uid: plan.uid.clone(), source };
        channel.send(&Request::Hello, &[]).map_err(failed("send to"))?;
        let answer = wait_for(plan, &channel, None, Instant::now() + PATIENCE)
            .and_then(|()| channel.recv().map_err(failed("receive from")));
        let (snapshot, fds) = match answer {
            Ok(Some((Event::Snapshot(snapshot), fds))) if snapshot.ready => (snapshot, fds),
            // It died while we spoke, or was never completed.
            Ok(_) => return Ok(None),
            Err(SandboxError::Channel { source, .. }) if source.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut fds = fds.into_iter();
        let Some(init) = fds.next().and_then(|fd| PidFd::try_from(fd).ok()) else { return Ok(None) };
        let adopted = Self::adopted(snapshot.containers, fds.collect());
        let cgroup = Cgroup::open(cgroup_mount.join(&plan.cgroup.path))?;
        Ok(Some((Self { uid: plan.uid.clone(), pod: pod_text(plan), channel, init, cgroup }, adopted)))
    }
}

/// Refuses names that would become other paths than they say.
pub(crate) fn validate(plan: &SandboxPlan) -> Result<(), SandboxError> {
    let invalid =
        |what, value: &str, why| Err(SandboxError::InvalidPlan { what, value: value.to_owned(), why });
    if !path::is_plain_name(&plan.uid) {
        return invalid("uid", &plan.uid, "it is no name of a file");
    }
    for dir in [&plan.run_dir, &plan.data_dir] {
        // A plan gone wrong must not make `remove` delete something else.
        if !dir.is_absolute() || !dir.iter().any(|part| part.to_str().is_some_and(|p| p.contains(&plan.uid)))
        {
            return invalid("directory", &dir.to_string_lossy(), "it is not this Pod's own");
        }
    }
    let below = Path::new(&plan.cgroup.path);
    if !below.components().all(|c| matches!(c, std::path::Component::Normal(_)))
        || !plan.cgroup.path.contains(&plan.uid)
    {
        return invalid("cgroup", &plan.cgroup.path, "it is not this Pod's own");
    }
    for volume in &plan.volumes {
        if !path::is_plain_name(&volume.name) {
            return invalid("volume", &volume.name, "it is no name of a file");
        }
    }
    Ok(())
}

/// The ordered procedure. What it leaves behind when it fails, [`remove::stop`] finds by name.
fn build<T>(
    plan: &SandboxPlan,
    program: &InitProgram,
    cgroup_mount: &Path,
    meanwhile: impl FnOnce(BorrowedFd<'_>) -> T,
) -> Result<(Sandbox, T), SandboxError> {
    let program = program.open()?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&plan.run_dir)
        .map_err(SandboxError::file("create", &plan.run_dir))?;
    write_files(&plan.files)?;
    let (cgroup, init_cgroup) = make_cgroups(plan, cgroup_mount)?;
    let (setup, mounts) = init_setup(plan)?;

    let listener = listen_for(plan)?;
    // Connected before init exists: the connection and the request wait in the socket.
    let socket = connect_to(plan)?.ok_or_else(|| SandboxError::Channel {
        action: "connect to",
        uid: plan.uid.clone(),
        source: Errno::ECONNREFUSED.into(),
    })?;
    let mut channel = Channel::new(socket);
    let fds: Vec<_> = mounts.iter().map(AsFd::as_fd).collect();
    channel.send(&Request::Setup(setup), &fds).map_err(|source| SandboxError::Channel {
        action: "send to",
        uid: plan.uid.clone(),
        source,
    })?;

    let init = spawn(plan, &program, &listener, &init_cgroup)?;
    drop(listener);
    let done = meanwhile(init.as_fd());
    match wait_until_ready(plan, &mut channel, &init) {
        Ok(()) => Ok((Sandbox { uid: plan.uid.clone(), pod: pod_text(plan), channel, init, cgroup }, done)),
        Err(error) => {
            // It is our child, so the signal cannot be refused; the first error is the one to tell.
            drop(init.send_signal(libc::SIGKILL));
            reap(&init);
            Err(error)
        }
    }
}

fn wait_until_ready(plan: &SandboxPlan, channel: &mut Channel, init: &PidFd) -> Result<(), SandboxError> {
    wait_for(plan, channel, Some(init), Instant::now() + PATIENCE)?;
    match channel.recv() {
        Ok(Some((Event::Ready, _))) => Ok(()),
        Ok(Some((Event::SetupFailed(failure), _))) => Err(SandboxError::Setup(failure)),
        Err(source) if source.kind() != io::ErrorKind::ConnectionReset => {
            Err(SandboxError::Channel { action: "receive from", uid: plan.uid.clone(), source })
        }
        Ok(_) | Err(_) => Err(SandboxError::InitGone { uid: plan.uid.clone() }),
    }
}

/// Makes the Pod's cgroup and what is missing above it.
///
/// The last Pod to go takes empty parents along, perhaps between the making of a parent and of its child: then once more.
fn make_pod_cgroup(root: &Cgroup, path: &str, controllers: Controllers) -> Result<Cgroup, SandboxError> {
    const TRIES: usize = 100;
    for _ in 1..TRIES {
        match root.ensure_path_with(path, controllers) {
            Err(error) if error.is_gone() => {}
            result => return Ok(result?),
        }
    }
    Ok(root.ensure_path_with(path, controllers)?)
}

fn make_cgroups(plan: &SandboxPlan, mount: &Path) -> Result<(Cgroup, Cgroup), SandboxError> {
    let controllers = Controllers::parse(&plan.cgroup.controllers.join(" "));
    let pod = make_pod_cgroup(&Cgroup::open(mount)?, &plan.cgroup.path, controllers)?;
    cgroup::apply_values(&pod, &plan.cgroup.values)?;
    // The containers below need the controllers too, and that forbids processes in the Pod's cgroup itself.
    pod.enable(controllers)?;
    let init = pod.ensure_child("init")?;
    Ok((pod, init))
}

fn write_files(files: &[FilePlan]) -> Result<(), SandboxError> {
    for file in files {
        let failed = || SandboxError::file("write", &file.path);
        if let Some(parent) = file.path.parent() {
            fs::create_dir_all(parent).map_err(SandboxError::file("create", parent))?;
        }
        let mut out = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&file.path)
            .map_err(failed())?;
        out.write_all(file.content.as_bytes()).map_err(failed())?;
        out.set_permissions(Permissions::from_mode(0o644)).map_err(failed())?;
    }
    Ok(())
}

/// Returns what init is told, and the mounts that go with it.
fn init_setup(plan: &SandboxPlan) -> Result<(InitSetup, Vec<OwnedFd>), SandboxError> {
    let mut setup = InitSetup {
        hostname: plan.hostname.clone(),
        sysctls: plan.sysctls.clone(),
        loopback: plan.namespaces.net == Owner::Pod,
        subreaper: plan.namespaces.pid == Owner::Host,
        shared_processes: plan.namespaces.pid == Owner::Pod,
        ..InitSetup::default()
    };
    let mut mounts = Vec::new();
    for volume in &plan.volumes {
        let VolumeSourcePlan::Tmpfs { size } = volume.source else { continue };
        let failed = |source| SandboxError::Mount { what: format!("volume {:?}", volume.name), source };
        mounts.push(
            tmpfs(size, volume.fs_group, true, Attributes::NOSUID | Attributes::NODEV).map_err(failed)?,
        );
        setup.volumes.push(volume.name.clone());
    }
    if let Some(size) = plan.shm_size {
        let failed = |source| SandboxError::Mount { what: "/dev/shm".to_owned(), source };
        let attributes = Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC;
        mounts.push(tmpfs(size, None, false, attributes).map_err(failed)?);
        setup.shm = true;
    }
    Ok((setup, mounts))
}

fn tmpfs(size: u64, group: Option<u32>, volume: bool, attributes: Attributes) -> io::Result<OwnedFd> {
    let text = |number: String| std::ffi::CString::new(number).map_err(io::Error::from);
    let tmpfs = Filesystem::new(c"tmpfs")?;
    tmpfs.set(c"source", c"tmpfs")?;
    tmpfs.set(c"size", &text(size.to_string())?)?;
    let mode = TMPFS_MODE | if group.is_some() { GROUP_BITS } else { 0 };
    tmpfs.set(c"mode", &text(format!("{mode:o}"))?)?;
    if let Some(group) = group {
        tmpfs.set(c"gid", &text(group.to_string())?)?;
    }
    if volume {
        // Since Linux 6.4; what a Pod keeps in memory may be secret. Older kernels swap it.
        match tmpfs.flag(c"noswap") {
            Err(error) if mount::errno(&error) != Some(libc::EINVAL) => return Err(error),
            _ => {}
        }
    }
    tmpfs.mount(attributes)
}

fn spawn(
    plan: &SandboxPlan,
    program: &OwnedFd,
    listener: &OwnedFd,
    cgroup: &Cgroup,
) -> Result<PidFd, SandboxError> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(SandboxError::file("open", "/dev/null"))?;
    // What init says in a panic; it says nothing otherwise.
    let last_words = plan.run_dir.join(remove::LAST_WORDS);
    let stderr: File = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&last_words)
        .map_err(SandboxError::file("create", &last_words))?;
    let child = Command::from_fd(program.as_fd(), "podrun-init")
        .fds([null.as_fd(), null.as_fd(), stderr.as_fd(), listener.as_fd()])
        .namespaces(kinds(plan.namespaces))
        .into_cgroup(cgroup.as_fd())
        .setsid(true)
        .spawn()
        .map_err(|source| SandboxError::Spawn { uid: plan.uid.clone(), source })?;
    Ok(child.into_pidfd())
}

/// Returns the namespaces that init gets: those of the Pod. Unless the host's is used it also has a pid namespace of
/// its own when containers have theirs: the kernel then ends every container when init ends.
fn kinds(plan: NamespacePlan) -> Kinds {
    let mut kinds = Kinds::MNT;
    for (owner, kind) in [(plan.net, Kinds::NET), (plan.ipc, Kinds::IPC), (plan.uts, Kinds::UTS)] {
        if owner != Owner::Host {
            kinds |= kind;
        }
    }
    if plan.pid != Owner::Host {
        kinds |= Kinds::PID;
    }
    kinds
}

fn socket_path(plan: &SandboxPlan) -> PathBuf {
    plan.run_dir.join(remove::SOCKET)
}

fn new_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

/// Returns the address by way of an open directory: a socket's path has 107 bytes, ours may be longer.
fn address(directory: &File) -> nix::Result<UnixAddr> {
    UnixAddr::new(format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), remove::SOCKET).as_str())
}

fn listen_for(plan: &SandboxPlan) -> Result<OwnedFd, SandboxError> {
    let failed =
        |source: io::Error| SandboxError::Channel { action: "listen for", uid: plan.uid.clone(), source };
    let directory = File::open(&plan.run_dir).map_err(SandboxError::file("open", &plan.run_dir))?;
    let socket = new_socket().map_err(|errno| failed(errno.into()))?;
    let bound = address(&directory).and_then(|address| bind(socket.as_raw_fd(), &address));
    bound.map_err(|errno| failed(errno.into()))?;
    let path = socket_path(plan);
    fs::set_permissions(&path, Permissions::from_mode(0o600))
        .map_err(SandboxError::file("change the mode of", path))?;
    let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
    listen(&socket, backlog).map_err(|errno| failed(errno.into()))?;
    Ok(socket)
}

/// Connects to the Pod's init; none if there is none.
fn connect_to(plan: &SandboxPlan) -> Result<Option<OwnedFd>, SandboxError> {
    let Ok(directory) = open_run_dir(&plan.run_dir) else { return Ok(None) };
    match connect_in(&directory) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::ENOENT | Errno::ECONNREFUSED) => Ok(None),
        Err(errno) => {
            let (action, uid) = ("connect to", plan.uid.clone());
            Err(SandboxError::Channel { action, uid, source: errno.into() })
        }
    }
}

/// Opens the directory of init's socket.
pub(crate) fn open_run_dir(run_dir: &Path) -> Result<File, SandboxError> {
    File::open(run_dir).map_err(SandboxError::file("open", run_dir))
}

/// Connects to the init whose socket is in a directory.
pub(crate) fn connect_in(directory: &File) -> nix::Result<OwnedFd> {
    let socket = new_socket()?;
    connect(socket.as_raw_fd(), &address(directory)?)?;
    Ok(socket)
}

/// Waits until init has said something, closed the connection, or died.
fn wait_for(
    plan: &SandboxPlan,
    channel: &Channel,
    init: Option<&PidFd>,
    deadline: Instant,
) -> Result<(), SandboxError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        fds.extend(init.map(|init| PollFd::new(init.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(0) if left.is_zero() => {
                return Err(SandboxError::NoAnswer { uid: plan.uid.clone(), seconds: PATIENCE.as_secs() });
            }
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => {
                let (action, uid) = ("receive from", plan.uid.clone());
                return Err(SandboxError::Channel { action, uid, source: errno.into() });
            }
        }
    }
}
