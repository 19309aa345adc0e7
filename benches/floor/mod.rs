//! The floor: the least that the kernel has to be asked for to run a Pod of two containers.
//!
//! It is system calls in a row, without any of podrun's code: an init (a program that sleeps) in new network, IPC,
//! UTS, pid and mount namespaces with its loopback up; then two containers in those, each with a cgroup, an overlay
//! of one layer, a volume, a `/proc` and namespaces for mounts, pids and cgroups. It leaves out what makes a container
//! safe and usable: `/dev`, `/sys`, masked paths, capabilities, seccomp, the device filter, logs, exit codes, records
//! on disk, status. What remains costs the same for everybody, so the ratio to it says what a program adds.

mod sys;

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libc::{CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS};
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, execve, mkdir, pipe2, pivot_root};
use podrun_testkit::child;

use crate::signals::{self, Signals};
use sys::SingleThreaded;

/// What containers share. A pid namespace of their own cannot be made below a joined one: clone3 refuses.
const POD_NAMESPACES: libc::c_int = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
const CONTAINER_NAMESPACES: libc::c_int = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWCGROUP;
const BUSYBOX: &CStr = c"/bin/busybox";

/// What one run took: from the first system call until both containers' programs were executed, from the first system
/// call until both had spoken, and from the kill until processes, mounts, directories and cgroups were gone.
pub(crate) type Times = [Duration; 3];

/// What a run needs, made beforehand: names as the kernel takes them, and the layer.
#[derive(Debug)]
pub(crate) struct Floor {
    layer: CString,
    volume: CString,
    volume_in_layer: CString,
    proc_in_layer: CString,
    pod_cgroup: CString,
    init_cgroup: CString,
    containers: [Container; 2],
}

#[derive(Debug)]
struct Container {
    cgroup: CString,
    upper: CString,
    work: CString,
    overlay: CString,
    script: CString,
}

impl Floor {
    /// Makes `layer` with a busybox below `dir`. `volume` is where the containers find their FIFOs; `cgroup` must not
    /// exist.
    pub(crate) fn new(dir: &Path, volume: &Path, cgroup: &Path) -> io::Result<Self> {
        let layer = busybox_layer(&dir.join("layer"))?;
        let container = |name: &str| {
            let (upper, work) = (dir.join(format!("upper-{name}")), dir.join(format!("work-{name}")));
            let overlay = format!(
                "lowerdir={},upperdir={},workdir={},volatile",
                layer.display(),
                upper.display(),
                work.display()
            );
            Ok::<_, io::Error>(Container {
                cgroup: c_path(&cgroup.join(name))?,
                upper: c_path(&upper)?,
                work: c_path(&work)?,
                overlay: CString::new(overlay)?,
                script: CString::new(signals::script(name, "/v", ""))?,
            })
        };
        Ok(Self {
            volume_in_layer: c_path(&layer.join("v"))?,
            proc_in_layer: c_path(&layer.join("proc"))?,
            layer: c_path(&layer)?,
            volume: c_path(volume)?,
            pod_cgroup: c_path(cgroup)?,
            init_cgroup: c_path(&cgroup.join("init"))?,
            containers: [container("a")?, container("b")?],
        })
    }

    /// Starts the Pod in a process of its own, waits until both containers have spoken, and removes everything.
    ///
    /// The process is there before the clock starts.
    pub(crate) fn run_apart(&self, signals: &mut Signals) -> io::Result<Times> {
        let (mut reader, mut writer) = io::pipe()?;
        child::run(|| {
            let times = self.run(signals).expect("the floor can be run here");
            for time in times {
                writer.write_all(&time.as_secs_f64().to_ne_bytes()).expect("a pipe takes a few bytes");
            }
        });
        drop(writer);
        let mut next = || {
            let mut bytes = [0; 8];
            reader.read_exact(&mut bytes).map(|()| Duration::from_secs_f64(f64::from_ne_bytes(bytes)))
        };
        Ok([next()?, next()?, next()?])
    }

    /// Does it in this process, which joins the Pod's namespaces and does not come back from them.
    fn run(&self, signals: &mut Signals) -> io::Result<Times> {
        let one = SingleThreaded::check()?;
        let start = Instant::now();
        let mut processes = Vec::new();
        let started = self.start(&one, &mut processes).and_then(|()| {
            let executed = start.elapsed();
            Ok((executed, signals.wait(2)?.duration_since(start)))
        });
        // Also after a failure, which is then the error to report.
        let start = Instant::now();
        let removed = self.remove(processes);
        let gone = start.elapsed();
        let (executed, spoke) = started?;
        removed?;
        Ok([executed, spoke, gone])
    }

    /// Returns once both programs are executed. The first process is init.
    fn start(&self, one: &SingleThreaded, processes: &mut Vec<OwnedFd>) -> io::Result<()> {
        make_dir(&self.pod_cgroup)?;
        make_dir(&self.init_cgroup)?;
        let cgroup = open_dir(&self.init_cgroup)?;
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let init = sys::spawn(one, POD_NAMESPACES | CLONE_NEWNS | CLONE_NEWPID, cgroup.as_fd(), init)?;
        drop(writer);
        wait_for_exec(reader)?;
        sys::setns(one, init.as_fd(), POD_NAMESPACES)?;
        processes.push(init);

        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        for container in &self.containers {
            make_dir(&container.cgroup)?;
            make_dir(&container.upper)?;
            make_dir(&container.work)?;
            let cgroup = open_dir(&container.cgroup)?;
            let enter = || self.become_container(container);
            processes.push(sys::spawn(one, CONTAINER_NAMESPACES, cgroup.as_fd(), enter)?);
        }
        drop(writer);
        wait_for_exec(reader)
    }

    fn become_container(&self, container: &Container) -> io::Result<Infallible> {
        const NONE: Option<&CStr> = None;
        let layer = self.layer.as_c_str();
        mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
        // The overlay covers its own layer, which saves a directory to mount on.
        mount(
            Some(c"overlay"),
            layer,
            Some(c"overlay"),
            MsFlags::MS_NODEV,
            Some(container.overlay.as_c_str()),
        )?;
        mount(Some(self.volume.as_c_str()), self.volume_in_layer.as_c_str(), NONE, MsFlags::MS_BIND, NONE)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some(c"proc"), self.proc_in_layer.as_c_str(), Some(c"proc"), flags, NONE)?;
        chdir(layer)?;
        pivot_root(c".", c".")?;
        umount2(c".", MntFlags::MNT_DETACH)?;
        chdir(c"/")?;
        Ok(execve(BUSYBOX, &[c"sh", c"-c", container.script.as_c_str()], &[] as &[&CStr])?)
    }

    fn remove(&self, processes: Vec<OwnedFd>) -> io::Result<()> {
        // Each is the first process of its pid namespace, whose end is the end of all in it.
        for process in &processes {
            sys::kill(process.as_fd())?;
        }
        for process in processes {
            sys::reap(process.as_fd())?;
        }
        for container in &self.containers {
            remove_dir(&container.cgroup)?;
            // Not empty: overlayfs keeps a few entries of its own in it.
            match fs::remove_dir_all(as_path(&container.work)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            remove_dir(&container.upper)?;
        }
        remove_dir(&self.init_cgroup)?;
        remove_dir(&self.pod_cgroup)
    }
}

fn init() -> io::Result<Infallible> {
    let lo = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    sys::loopback_up(lo.as_fd())?;
    Ok(execve(BUSYBOX, &[c"sleep", c"1000000"], &[] as &[&CStr])?)
}

/// Waits until all copies of the pipe's other end are gone, which exec closes.
fn wait_for_exec(pipe: OwnedFd) -> io::Result<()> {
    match File::from(pipe).read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("nobody writes to this pipe")),
    }
}

fn make_dir(path: &CStr) -> io::Result<()> {
    Ok(mkdir(path, Mode::from_bits_truncate(0o755))?)
}

/// Removes a directory; fine if it is not there, as after a start that failed.
fn remove_dir(path: &CStr) -> io::Result<()> {
    let path = as_path(path);
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("rmdir {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn open_dir(path: &CStr) -> io::Result<OwnedFd> {
    Ok(open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Returns the directory after putting a busybox with a shell into it, and what runtimes mount on.
fn busybox_layer(dir: &Path) -> io::Result<PathBuf> {
    for name in ["bin", "dev", "proc", "sys", "v"] {
        fs::create_dir_all(dir.join(name))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    fs::copy(busybox.ok_or(io::ErrorKind::NotFound)?, dir.join("bin/busybox"))?;
    symlink("busybox", dir.join("bin/sh"))?;
    Ok(dir.to_owned())
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn as_path(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}
