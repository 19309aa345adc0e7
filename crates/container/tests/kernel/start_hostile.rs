//! A container that lies in wait for the others of its Pod while they start.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use podrun_plan::model::Owner;
use podrun_sandbox::InitEvent;
use podrun_sandbox::protocol::{ExitStatus, Stage};
use podrun_testkit::require;

use crate::common::{DEFAULT_CAPS, Pod, content, eventually, example};
use crate::exec::shell;

const SYS_PTRACE: u64 = 1 << 19;

/// How often the others start.
const STARTS: u32 = 60;

/// Puts the tracer into an image, with the libraries that it shares with this program.
fn install_tracer(layer: &Path) {
    let program = example("tracer");
    fs::copy(&program, layer.join("bin/tracer")).expect("the example is built");
    let maps = fs::read_to_string("/proc/self/maps").expect("readable");
    let libraries: BTreeSet<&str> = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]))
        .filter(|path| path.contains(".so"))
        .collect();
    let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
    for library in libraries.into_iter().map(Path::new).chain(loader.exists().then_some(loader)) {
        let place = layer.join(library.strip_prefix("/").expect("absolute"));
        fs::create_dir_all(place.parent().expect("it has one")).expect("mkdir");
        fs::copy(library, &place).expect("copied");
        // Where the loader looks, which on a machine with /usr merged is a link to where the file is.
        let name = library.file_name().expect("it has one");
        fs::create_dir_all(layer.join("lib")).expect("mkdir");
        fs::copy(library, layer.join("lib").join(name)).expect("copied");
    }
}

#[test]
fn nobody_who_starts_has_ever_more_rights_than_its_container() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned();
    pod.plan.namespaces.pid = Owner::Pod;
    install_tracer(&pod.layer);
    let mut pod = pod.created();
    let mut tracer = pod.setup("tracer", &["/bin/tracer"]);
    tracer.security.capabilities |= SYS_PTRACE;
    tracer.security.no_new_privs = true;
    pod.start(&tracer);
    eventually("it has caught somebody", || {
        content(&fs::read_to_string(&tracer.log_path).unwrap_or_default()).contains("CapPrm")
    });

    for number in 0..STARTS {
        // Long enough to be caught, or the test would see nobody.
        let mut setup = pod.shell(&format!("victim-{number}"), "exec sleep 0.02");
        setup.security.no_new_privs = true;
        pod.request_start(&setup);
        let ended = pod.wait(&setup);
        assert_eq!(ended.code(), 0, "it is let go again: {ended:?}");
        assert!(ended.started.is_some());
    }
    shell(&pod, &tracer, "touch /tmp/enough");
    let InitEvent::Exited(_) = pod.event() else { panic!("only the tracer is left") };

    let found = content(&fs::read_to_string(&tracer.log_path).expect("a log"));
    let masks = [0, DEFAULT_CAPS, DEFAULT_CAPS | SYS_PTRACE].map(|mask| format!("{mask:016x}"));
    for line in found.lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        let allowed = match name {
            "CapPrm" | "CapEff" | "CapBnd" => masks.iter().any(|mask| mask == value),
            "Seccomp" => value == "2",
            "NoNewPrivs" => value == "1",
            // The Pod's own process 1 has an empty one, and so has who has just gone.
            "root" => value.is_empty() || value.starts_with("bin ") && !value.contains("rootfs"),
            "fd" => ["pipe", "/dev/null", "/proc", "/tmp/enough"].contains(&value),
            "memory" => true,
            _ => false,
        };
        assert!(allowed, "{line} in:\n{found}");
    }
    // What it must have seen, or it has not looked.
    assert!(found.contains("root bin "), "{found}");
    for expected in [format!("CapPrm {}", masks[1]), "memory".to_owned(), "fd pipe".to_owned()] {
        assert!(found.lines().any(|line| line == expected), "{expected} is missing in:\n{found}");
    }
    pod.remove();
}

#[test]
fn the_shortest_life_among_others_is_told_from_start_to_end() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned();
    pod.plan.namespaces.pid = Owner::Pod;
    let mut pod = pod.created();
    for number in 0..100 {
        let setup = pod.setup(&format!("short-{number}"), &["false"]);
        pod.request_start(&setup);
        let ended = pod.wait(&setup);
        assert_eq!(ended.code(), 1);
        assert!(ended.started.expect("told").pid > 1);
    }
    for number in 0..20 {
        let failed = pod.try_start(&pod.setup(&format!("none-{number}"), &["/nosuch"]));
        assert_eq!(failed.expect_err("there is none").failure.errno, libc::ENOENT);
    }
    pod.remove();
}

#[test]
fn a_signal_that_comes_before_the_process_is_kept_for_it() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned();
    pod.plan.namespaces.pid = Owner::Pod;
    let mut pod = pod.created();
    for signal in [libc::SIGTERM, libc::SIGUSR1] {
        let setup = pod.setup(&format!("s{signal}"), &["sleep", "1000"]);
        pod.request_start(&setup);
        pod.sandbox().signal(&setup.id, signal).expect("init is told");
        let ended = pod.wait(&setup);
        assert_eq!(ended.exited.status, ExitStatus::Signal(signal));
        assert!(ended.started.is_some());
    }
    // Nobody may be born after this one.
    let setup = pod.setup("killed", &["sleep", "1000"]);
    pod.request_start(&setup);
    pod.sandbox().signal(&setup.id, libc::SIGKILL).expect("init is told");
    match pod.event() {
        InitEvent::StartFailed(failed) => assert_eq!(failed.failure.stage, Stage::Process),
        InitEvent::Started { .. } => {
            let InitEvent::Exited(exited) = pod.event() else { panic!("it was killed") };
            assert_eq!(exited.status, ExitStatus::Signal(libc::SIGKILL));
        }
        other => panic!("{other:?}"),
    }
    let cgroup = pod.sandbox().container_cgroup(&setup.id).expect("there");
    eventually("nothing is left of it", || cgroup.procs().is_ok_and(|pids| pids.is_empty()));
    drop(cgroup);
    pod.remove();
}
