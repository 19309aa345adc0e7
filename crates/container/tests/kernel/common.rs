//! A sandbox for tests: a layer with busybox made by hand, plans made by hand, and waiting for events.
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_container::log::parse_entry;
use podrun_plan::model::{
    CgroupPlan, ContainerSetup, MountPlan, MountSource, NamespacePlan, NetworkPlan, Owner, SandboxPlan,
    SecurityPlan, VolumePlan, VolumeSourcePlan,
};
use podrun_sandbox::protocol::{Exited, StartFailed, Started};
use podrun_sandbox::{InitEvent, InitProgram, Sandbox};
use podrun_spec::model::{MountPropagation, RecursiveReadOnly};
use podrun_testkit::{LeakCheck, TempRoot, cgroup2_mount};

/// How long anything in a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// podman's default capabilities: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE,
/// SYS_CHROOT, SETFCAP.
pub(crate) const DEFAULT_CAPS: u64 = 0x8004_05fb;

/// A sandbox that is removed and checked for leaks at the end.
pub(crate) struct Pod {
    pub(crate) root: TempRoot,
    pub(crate) plan: SandboxPlan,
    pub(crate) cgroup_mount: PathBuf,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) layer: PathBuf,
    leaks: Option<LeakCheck>,
}

/// A container that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) started: Option<Started>,
    pub(crate) exited: Exited,
    pub(crate) log: String,
}

impl Ended {
    pub(crate) fn code(&self) -> i32 {
        self.exited.status.exit_code()
    }
}

/// Returns where cargo has built an example of this package.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let target = test.ancestors().nth(2).expect("target/debug/deps/test");
    target.join("examples").join(name)
}

pub(crate) fn init_program() -> InitProgram {
    InitProgram::new(example("init"))
}

pub(crate) fn namespaces() -> NamespacePlan {
    NamespacePlan {
        net: Owner::Pod,
        ipc: Owner::Pod,
        uts: Owner::Pod,
        pid: Owner::Container,
        mnt: Owner::Container,
        cgroup: Owner::Container,
    }
}

impl Pod {
    /// Makes the plan of a sandbox, not the sandbox.
    pub(crate) fn planned() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let uid = format!("podrun-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let leaks = LeakCheck::only(&uid);
        let root = TempRoot::new();
        let layer = root.path().join("layer");
        make_layer(&layer);
        let plan = SandboxPlan {
            uid: uid.clone(),
            name: "pod".to_owned(),
            node_name: "node".to_owned(),
            namespace: "default".to_owned(),
            run_dir: root.path().join("run/pods").join(&uid),
            data_dir: root.path().join("data/pods").join(&uid),
            log_dir: root.path().join("logs").join(format!("default_pod_{uid}")),
            namespaces: namespaces(),
            hostname: Some("the-pod".to_owned()),
            sysctls: Vec::new(),
            cgroup: CgroupPlan {
                path: format!("podrun-tests/{uid}"),
                controllers: Vec::new(),
                values: Vec::new(),
            },
            volumes: Vec::new(),
            files: Vec::new(),
            network: NetworkPlan::default(),
            notices: Vec::new(),
            shm_size: Some(1 << 20),
        };
        let cgroup_mount = cgroup2_mount().expect("required by the test");
        Self { root, plan, cgroup_mount, sandbox: None, layer, leaks: Some(leaks) }
    }

    /// Makes a sandbox.
    pub(crate) fn new() -> Self {
        Self::planned().created()
    }

    pub(crate) fn created(mut self) -> Self {
        for volume in &self.plan.volumes {
            podrun_sandbox::volumes::prepare(volume).expect("the volume is prepared");
        }
        let sandbox = Sandbox::create(&self.plan, &init_program(), &self.cgroup_mount);
        self.sandbox = Some(sandbox.unwrap_or_else(|error| panic!("{}", chain(&error))));
        self
    }

    pub(crate) fn with_volume(mut self, name: &str, source: VolumeSourcePlan) -> Self {
        self.plan.volumes.push(VolumePlan { name: name.to_owned(), source, fs_group: None });
        self
    }

    pub(crate) fn sandbox(&mut self) -> &mut Sandbox {
        self.sandbox.as_mut().expect("it is made")
    }

    /// Returns a container that runs a shell script.
    pub(crate) fn shell(&self, name: &str, script: &str) -> ContainerSetup {
        self.setup(name, &["/bin/sh", "-c", script])
    }

    pub(crate) fn setup(&self, name: &str, args: &[&str]) -> ContainerSetup {
        let attempt = 0;
        ContainerSetup {
            id: format!("{}_{name}_{attempt}", self.plan.uid),
            name: name.to_owned(),
            attempt,
            namespaces: self.plan.namespaces,
            cgroup: CgroupPlan {
                path: format!("{}/{name}.{attempt}", self.plan.cgroup.path),
                controllers: Vec::new(),
                values: Vec::new(),
            },
            dir: self.plan.data_dir.join(format!("containers/{name}/{attempt}")),
            log_path: self.plan.log_dir.join(name).join(format!("{attempt}.log")),
            layers: vec![self.layer.clone()],
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: vec!["PATH=/bin:/sbin".to_owned()],
            cwd: "/".to_owned(),
            image_user: String::new(),
            mounts: Vec::new(),
            security: SecurityPlan {
                run_as_user: None,
                run_as_group: None,
                run_as_non_root: false,
                supplemental_groups: Vec::new(),
                merge_image_groups: true,
                capabilities: DEFAULT_CAPS,
                no_new_privs: false,
                seccomp: true,
                privileged: false,
                read_only_rootfs: false,
                masked_paths: MASKED.map(str::to_owned).to_vec(),
                read_only_paths: READ_ONLY.map(str::to_owned).to_vec(),
                rlimits: Vec::new(),
            },
            oom_score_adj: 1000,
            shm_size: self.plan.shm_size,
            stop_signal: libc::SIGTERM,
            grace_period: Duration::from_secs(2),
        }
    }

    /// Starts a container and waits until it runs.
    pub(crate) fn start(&mut self, setup: &ContainerSetup) -> Started {
        match self.try_start(setup) {
            Ok(started) => started,
            Err(failed) => panic!("{} could not be started: {:?}", failed.id, failed.failure),
        }
    }

    pub(crate) fn try_start(&mut self, setup: &ContainerSetup) -> Result<Started, StartFailed> {
        self.request_start(setup);
        match self.event() {
            InitEvent::Started { started, process } if started.id == setup.id => {
                assert!(process.is_some(), "its pidfd comes along");
                Ok(started)
            }
            InitEvent::StartFailed(failed) if failed.id == setup.id => Err(failed),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn request_start(&mut self, setup: &ContainerSetup) {
        let sandbox = self.sandbox.as_ref().expect("it is made");
        let prepared =
            podrun_container::prepare(setup, sandbox).unwrap_or_else(|error| panic!("{}", chain(&error)));
        sandbox.start(setup, prepared).expect("init is told");
    }

    /// Runs a container to its end.
    pub(crate) fn run(&mut self, setup: &ContainerSetup) -> Ended {
        self.request_start(setup);
        self.wait(setup)
    }

    /// Runs a shell script with the usual confinement and returns what it printed.
    pub(crate) fn output(&mut self, script: &str) -> String {
        let name = format!("output-{}", fs::read_dir(&self.plan.log_dir).map_or(0, Iterator::count));
        let setup = self.shell(&name, script);
        let ended = self.run(&setup);
        content(&ended.log)
    }

    /// Waits until the container has ended.
    pub(crate) fn wait(&mut self, setup: &ContainerSetup) -> Ended {
        let mut seen = None;
        loop {
            match self.event() {
                InitEvent::Started { started, .. } if started.id == setup.id => seen = Some(started),
                InitEvent::Exited(exited) if exited.id == setup.id => {
                    let log = fs::read_to_string(&setup.log_path).expect("the log");
                    return Ended { started: seen, exited, log };
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn event(&mut self) -> InitEvent {
        let deadline = Instant::now() + PATIENCE;
        let sandbox = self.sandbox.as_mut().expect("it is made");
        loop {
            if let Some(event) = sandbox.recv().expect("init lives") {
                return event;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(sandbox.events(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::try_from(left).expect("fits")).expect("poll");
            assert!(ready > 0, "nothing happened in {PATIENCE:?}");
        }
    }

    /// Removes everything and checks that nothing is left.
    pub(crate) fn remove(mut self) {
        if let Some(sandbox) = self.sandbox.take() {
            sandbox.stop().expect("stopped");
        }
        remove(&self.plan, &self.cgroup_mount);
        remove(&self.plan, &self.cgroup_mount);
        let leaks = self.leaks.take();
        drop(leaks);
    }
}

impl Drop for Pod {
    #[expect(clippy::print_stdout, reason = "the test has failed, and this may say why")]
    fn drop(&mut self) {
        // After a failed test nothing may go on running; its message is the one to read.
        if std::thread::panicking() {
            drop(podrun_sandbox::remove(&self.plan, &self.cgroup_mount));
            let log = fs::read_to_string(self.plan.run_dir.join("init.log")).unwrap_or_default();
            if !log.is_empty() {
                println!("init said: {log}");
            }
        }
    }
}

fn remove(plan: &SandboxPlan, cgroup_mount: &Path) {
    if let Err(errors) = podrun_sandbox::remove(plan, cgroup_mount) {
        panic!("{:?}", errors.iter().map(|error| chain(error)).collect::<Vec<_>>());
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Returns what a log says, without times, streams and tags.
///
/// A log that is still written may end in half a line: a read sees the pages of a write one by one.
pub(crate) fn content(log: &str) -> String {
    let whole = &log[..log.rfind('\n').map_or(0, |end| end + 1)];
    let entries = whole.lines().map(|line| parse_entry(line.as_bytes()).expect("an entry"));
    entries
        .map(|entry| {
            String::from_utf8_lossy(entry.content).into_owned() + if entry.partial { "" } else { "\n" }
        })
        .collect()
}

/// Waits until something is true that no event tells of.
#[expect(
    clippy::disallowed_methods,
    reason = "files, cgroups and the other end of a socket are looked at in turn"
)]
pub(crate) fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !test() {
        assert!(Instant::now() < deadline, "{what} did not come true in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn mount(volume: &str, source: MountSource, target: &str) -> MountPlan {
    MountPlan {
        volume: Some(volume.to_owned()),
        source,
        target: target.to_owned(),
        sub_path: None,
        sub_path_expr: None,
        read_only: false,
        recursive_read_only: RecursiveReadOnly::Disabled,
        propagation: MountPropagation::None,
        restricted: true,
    }
}

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Makes a layer with busybox and a few users.
pub(crate) fn make_layer(layer: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp", "home/app"] {
        fs::create_dir_all(layer.join(dir)).expect("mkdir");
    }
    fs::set_permissions(layer.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
    fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox");
    for applet in [
        "awk", "cat", "chmod", "cut", "dd", "echo", "env", "false", "find", "grep", "head", "hostname", "id",
        "ip", "ipcmk", "ipcs", "kill", "ln", "ls", "mkdir", "mkfifo", "mknod", "mount", "ps", "pwd",
        "readlink", "rm", "rmdir", "seq", "setsid", "sh", "sleep", "sort", "stat", "su", "tail", "test",
        "touch", "tr", "true", "ulimit", "umount", "unshare", "wc", "yes",
    ] {
        symlink("busybox", layer.join("bin").join(applet)).expect("symlink");
    }
    fs::write(
        layer.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n",
    )
    .expect("write");
    fs::write(layer.join("etc/group"), "root:x:0:\napp:x:1001:\nextra:x:2000:app\n").expect("write");
}

/// Returns a second handle on something that can be polled, to tell that it is readable.
pub(crate) fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).expect("poll") > 0
}
