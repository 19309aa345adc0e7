//! Containers that lie in wait for the commands that are run in them.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use podrun_plan::model::Owner;
use podrun_sandbox::protocol::{ExecTarget, ExitStatus, Stage, TerminalSize};
use podrun_sandbox::{ExecEvent, Execs, Stdio};
use podrun_testkit::require;

use crate::common::{DEFAULT_CAPS, Pod, content, eventually, init_program};
use crate::exec::{Running, begin, next, refused, run, shell, sleeper};

const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;

/// Appends what is to be seen to a file, without end, from when it is told to.
fn watcher(what: &str) -> String {
    format!("until [ -e /tmp/go ]; do :; done; while :; do {what} 2>/dev/null | sort -u >>/tmp/seen; done")
}

#[test]
fn nothing_there_has_ever_more_rights_than_the_container() {
    require!(root, cgroup2, overlay, program("busybox"));
    for pid in [Owner::Container, Owner::Pod] {
        let mut pod = Pod::planned();
        pod.plan.namespaces.pid = pid;
        let mut pod = pod.created();
        // One that may trace all processes that it can name.
        let rights = "cat /proc/[0-9]*/status | grep -E '^(Cap(Prm|Eff|Bnd)|Seccomp|Uid|NoNewPrivs):'";
        let mut setup = pod.shell("watcher", &watcher(rights));
        setup.security.capabilities |= SYS_PTRACE;
        setup.security.no_new_privs = true;
        let mut open = pod.shell("open", &watcher("ls -l /proc/[0-9]*/fd | sed -n 's/.* -> //p'"));
        open.security.capabilities |= SYS_PTRACE;
        pod.start(&setup);
        if pid == Owner::Pod {
            pod.start(&open);
            run(&pod, &open, &["touch", "/tmp/go"]);
        }
        // Now, so that only what commands do is seen, not how a container starts.
        run(&pod, &setup, &["touch", "/tmp/go"]);
        for _ in 0..200 {
            assert_eq!(run(&pod, &setup, &["true"]).status, ExitStatus::Code(0));
        }
        let seen = shell(&pod, &setup, "sort -u /tmp/seen");
        let mask = format!("{:016x}", DEFAULT_CAPS | SYS_PTRACE);
        let other = format!("{:016x}", 0);
        let allowed = |line: &str| match line.split_once(":\t").expect("a field") {
            // The Pod's own process 1 has nothing.
            ("CapPrm" | "CapEff" | "CapBnd", caps) => caps == mask || pid == Owner::Pod && caps == other,
            ("Seccomp", mode) => mode == "2",
            ("NoNewPrivs", set) => set == "1" || pid == Owner::Pod,
            ("Uid", ids) => ids == "0\t0\t0\t0" || pid == Owner::Pod && ids.starts_with("65535\t"),
            _ => false,
        };
        assert!(seen.lines().count() >= 6, "{seen}");
        for line in seen.lines() {
            assert!(allowed(line), "{pid:?}: {line}");
        }
        if pid == Owner::Pod {
            let seen = shell(&pod, &open, "sort -u /tmp/seen");
            assert!(seen.contains("pipe:["), "{seen}");
            for line in seen.lines() {
                let harmless = ["pipe:[", "/dev/null", "/dev/zero", "/tmp/seen", "/proc", "/tmp", "/bin"];
                assert!(harmless.iter().any(|start| line.starts_with(start)), "{line}");
            }
        }
        pod.remove();
    }
}

#[test]
fn nobody_of_the_same_user_looks_into_a_command_before_it_is_executed() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let script =
        "while :; do for p in /proc/[0-9]*; do readlink $p/exe $p/cwd; done >>/tmp/seen 2>/dev/null; done";
    let mut setup = pod.shell(
        "c",
        &format!("for p in /proc/[0-9]*; do :; done; {}", script.replace("$p/exe $p/cwd", "$p/exe")),
    );
    setup.security.run_as_user = Some(1000);
    pod.start(&setup);
    for _ in 0..300 {
        assert_eq!(run(&pod, &setup, &["true"]).status, ExitStatus::Code(0));
    }
    assert_eq!(shell(&pod, &setup, "sort -u /tmp/seen"), "/bin/busybox\n");
    pod.remove();
}

#[test]
fn a_program_that_is_its_own_interpreter_changes_nothing_of_podrun() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    for (name, target) in [("evil", "#!/proc/self/exe\n"), ("evil2", "#!/proc/self/fd/3\n")] {
        fs::write(pod.layer.join(name), target).expect("write");
        fs::set_permissions(pod.layer.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("chmod");
    }
    let init = init_program();
    let before = fs::read(init.path()).expect("readable");
    let mut setup = pod.shell(
        "c",
        "while :; do for p in /proc/[0-9]*; do (: >>$p/exe) 2>/dev/null && echo opened $p; done; done",
    );
    setup.security.capabilities |= SYS_PTRACE;
    pod.start(&setup);
    for _ in 0..100 {
        // It is executed again, by the container's user, and ends at once; or not, if its own loader is not there.
        let mut evil = begin(&pod, &setup, &["/evil"]);
        let end = match next(&mut evil.exec) {
            ExecEvent::Started => next(&mut evil.exec),
            failed => failed,
        };
        assert!(matches!(end, ExecEvent::Failed(_) | ExecEvent::Exited(ExitStatus::Code(1))), "{end:?}");
        assert_eq!(refused(&pod, &setup, &["/evil2"]).stage, Stage::Exec);
        assert_eq!(refused(&pod, &setup, &["/proc/self/fd/3"]).stage, Stage::Exec);
    }
    assert_eq!(fs::read(init.path()).expect("readable"), before);
    assert_eq!(content(&fs::read_to_string(&setup.log_path).expect("a log")), "");
    pod.remove();
}

#[test]
fn a_working_directory_cannot_be_made_a_way_out() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mut setup = pod.setup("c", &["sleep", "1000"]);
    setup.cwd = "/work/dir".to_owned();
    pod.start(&setup);
    assert_eq!(shell(&pod, &setup, "pwd"), "/work/dir\n");
    let mut ways: Vec<String> = (0..24).map(|number| format!("/proc/self/fd/{number}")).collect();
    ways.extend((3..12).map(|number| format!("/proc/thread-self/fd/{number}/../..")));
    ways.extend(["/proc/1/cwd", "/proc/1/root", "/proc/self/cwd", "/nowhere"].map(str::to_owned));
    for way in ways {
        let swap = format!("cd /; rm -rf /work; mkdir /work; ln -s {way} /work/dir");
        // Done from a command whose directory is still there: the next one has to do without.
        let mut plain = setup.clone();
        plain.id.clone_from(&setup.id);
        shell(&pod, &plain, &swap);
        let failure = refused(&pod, &setup, &["pwd"]);
        assert_eq!(failure.stage, Stage::WorkingDir, "{way}: {failure:?}");
        // From outside, by the root of a process that may.
        let process =
            pod.sandbox().existing_cgroup(&setup.id).expect("there").expect("there").procs().expect("read")
                [0];
        let root = format!("/proc/{process}/root");
        fs::remove_file(format!("{root}/work/dir")).expect("unlink");
        fs::create_dir(format!("{root}/work/dir")).expect("mkdir");
    }
    // Gone, but still somebody's directory.
    shell(&pod, &setup, "rmdir /work/dir");
    assert_eq!(refused(&pod, &setup, &["pwd"]).errno, libc::ENOENT);
    pod.remove();
}

#[test]
fn what_stands_in_for_a_device_is_not_used() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mut setup = pod.setup("c", &["sleep", "1000"]);
    setup.security.capabilities |= SYS_ADMIN;
    pod.start(&setup);
    for replacement in ["mkfifo", "ln -s /etc/passwd", "touch", "mkdir", "ln -s /dev/zero"] {
        shell(&pod, &setup, &format!("rm -rf /dev/null; {replacement} /dev/null"));
        let text = shell(&pod, &setup, "readlink /proc/self/fd/0; cat");
        assert!(text.starts_with("pipe:[") && text.lines().count() == 1, "{replacement}: {text}");
    }
    let terminal = Stdio::Terminal(TerminalSize { rows: 1, columns: 1 });
    for replacement in ["mkfifo", "touch", "ln -s /dev/zero"] {
        shell(&pod, &setup, &format!("mount -t tmpfs none /dev/pts; {replacement} /dev/pts/ptmx"));
        let execs = Execs::new(&pod.plan).expect("there");
        let args = ["true".to_owned()];
        let mut exec = execs.start(ExecTarget::Id(setup.id.clone()), &args, &terminal).expect("asked");
        let ExecEvent::Failed(failure) = next(&mut exec) else { panic!("it must fail") };
        assert_eq!(failure.stage, Stage::Process, "{replacement}: {failure:?}");
        shell(&pod, &setup, "umount /dev/pts");
    }
    pod.remove();
}

#[test]
fn who_kills_the_parent_of_a_command_harms_itself_alone() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = sleeper(&mut pod);
    let mut victim = Running::started(&pod, &setup, &["sh", "-c", "sleep 4321 & wait"]);
    shell(
        &pod,
        &setup,
        "kill -9 $(awk '/^PPid/ {print $2}' /proc/$(ps -o pid,args | awk '/wait$/ {print $1; exit}')/status)",
    );
    assert_eq!(next(&mut victim.exec), ExecEvent::Gone, "nobody tells how it ended");
    victim.exec.kill().expect("asked");
    let cgroup = pod.sandbox().container_cgroup(&setup.id).expect("there");
    eventually("what is left is killed", || cgroup.children().expect("listed").is_empty());
    drop(cgroup);
    // A stopped one is not waited for.
    let mut stopped = begin(&pod, &setup, &["sh", "-c", "kill -STOP $PPID; echo up; sleep 4321"]);
    io::Read::read_exact(&mut stopped.output, &mut [0; 3]).expect("its word");
    drop(stopped);
    let cgroup = pod.sandbox().container_cgroup(&setup.id).expect("there");
    eventually("it is killed", || cgroup.children().expect("listed").is_empty());
    assert_eq!(shell(&pod, &setup, "ps -o args | grep -c '[s]leep 4321'; true"), "0\n");
    drop(cgroup);
    pod.remove();
}

#[test]
fn a_container_that_has_cgroups_of_its_own_is_entered_all_the_same() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned();
    let root = podrun_cgroups::Cgroup::open(&pod.cgroup_mount).expect("required");
    let available = root.read("cgroup.controllers").expect("read");
    let usable = ["pids", "memory", "hugetlb"].into_iter().find(|name| available.contains(name));
    let controller = usable.expect("a controller").to_owned();
    pod.plan.cgroup.controllers = vec![controller.clone()];
    let mut pod = pod.created();
    let mut setup = pod.shell("c", "sleep 10000");
    setup.args = vec!["sleep".to_owned(), "10000".to_owned()];
    pod.start(&setup);
    // As systemd does in a container that may.
    let cgroup = pod.sandbox().container_cgroup(&setup.id).expect("there");
    let scope = cgroup.create_child("init.scope").expect("made");
    for process in cgroup.procs().expect("read") {
        scope.add_process(process).expect("moved");
    }
    cgroup.write("cgroup.subtree_control", &format!("+{controller}")).expect("enabled");
    assert_eq!(shell(&pod, &setup, "echo inside"), "inside\n");
    let mut left = Running::started(&pod, &setup, &["sh", "-c", "sleep 4321 & wait"]);
    left.exec.kill().expect("asked");
    while next(&mut left.exec) != ExecEvent::Gone {}
    eventually("its leaf is gone", || cgroup.children().expect("listed") == ["init.scope"]);
    drop((cgroup, scope));
    pod.remove();
}

#[test]
fn input_is_passed_on_and_closed() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let setup = sleeper(&mut pod);
    let (stdin, mut writer) = io::pipe().expect("a pipe");
    let (mut reader, stdout) = io::pipe().expect("a pipe");
    let args = ["cat".to_owned()];
    let stdio = Stdio::Pipes { stdin: Some(stdin.as_fd()), stdout: stdout.as_fd(), stderr: stdout.as_fd() };
    let execs = Execs::new(&pod.plan).expect("there");
    let mut exec = execs.start(ExecTarget::Name(setup.name.clone()), &args, &stdio).expect("asked");
    drop((stdin, stdout));
    io::Write::write_all(&mut writer, b"some words").expect("written");
    drop(writer);
    let mut text = String::new();
    io::Read::read_to_string(&mut reader, &mut text).expect("read");
    assert_eq!(text, "some words");
    assert_eq!(next(&mut exec), ExecEvent::Started);
    assert_eq!(next(&mut exec), ExecEvent::Exited(ExitStatus::Code(0)));
    // Its name alone would do as well, but not that of another.
    let none = execs.start(
        ExecTarget::Name("other".to_owned()),
        &args,
        &Stdio::Terminal(TerminalSize { rows: 1, columns: 1 }),
    );
    assert!(matches!(next(&mut none.expect("asked")), ExecEvent::Failed(_)));
    drop((exec, execs));
    pod.remove();
}
