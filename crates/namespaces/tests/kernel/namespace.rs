//! Namespaces are opened, joined, compared and pinned.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;

use nix::libc;
use nix::sys::stat::Mode;
use podrun_namespaces::{
    Error, IdMap, IdMaps, Kind, Kinds, Namespace, PidFd, SetGroups, enter_process, on_thread_in,
    on_thread_in_all, threads, unpin, unshare, write_id_maps,
};
use podrun_testkit::{LeakCheck, child, require};
use serial_test::{file_serial, serial};

use crate::programs::Waiting;

fn current(kind: Kind) -> Namespace {
    Namespace::of_current(kind).expect("proc")
}

fn of(waiting: &Waiting, kind: Kind) -> Namespace {
    Namespace::of_process(waiting.child.as_fd(), kind).expect("our child lives")
}

#[test]
fn each_kind_is_named_as_the_kernel_names_it() {
    for kind in Kind::ALL {
        let namespace = current(kind);
        let link = fs::read_link(format!("/proc/thread-self/ns/{kind}")).expect("proc");
        assert_eq!(Path::new(&namespace.id().to_string()), link);
        assert_eq!(namespace.kind(), kind);
        assert_eq!(Namespace::for_children_of_current(kind).expect("proc").id(), namespace.id());
        let again =
            Namespace::try_from(OwnedFd::from(namespace.try_clone().expect("room"))).expect("it is one");
        assert_eq!(again.id(), namespace.id());
    }
}

#[test]
fn other_files_are_no_namespaces() {
    let directory = tempfile::tempdir().expect("a directory");
    let (text, fifo) = (directory.path().join("text"), directory.path().join("fifo"));
    fs::write(&text, "").expect("a file");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("a fifo");
    // Opening the fifo for reading would wait for a writer for ever.
    for path in
        [text.as_path(), &fifo, directory.path(), Path::new("/proc/self/status"), Path::new("/dev/null")]
    {
        let error = Namespace::open(path).expect_err("no namespace");
        assert!(matches!(&error, Error::NotNamespace { path: p } if p == path), "{error}");
    }
    let absent = Namespace::open(directory.path().join("absent")).expect_err("no file");
    assert!(matches!(absent, Error::Open { source, .. } if source.raw_os_error() == Some(libc::ENOENT)));
    let file = File::open(&text).expect("our file");
    assert!(matches!(Namespace::try_from(OwnedFd::from(file)), Err(Error::NotNamespaceFd)));
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn owner_and_parent_lead_to_the_callers_namespaces() {
    require!(root, userns);
    let leaks = LeakCheck::start();
    let waiting = Waiting::start(|command| _ = command.namespaces(Kind::User | Kind::Net | Kind::Pid));
    let (user, net, pid) = (of(&waiting, Kind::User), of(&waiting, Kind::Net), of(&waiting, Kind::Pid));
    assert_eq!(net.owner().expect("a descendant").id(), user.id());
    assert_eq!(user.parent().expect("a descendant").id(), current(Kind::User).id());
    assert_eq!(pid.parent().expect("a descendant").id(), current(Kind::Pid).id());
    let error = net.parent().expect_err("net namespaces have no parents");
    assert!(matches!(error, Error::Relation { source, .. } if source.raw_os_error() == Some(libc::EINVAL)));
    drop((waiting, user, net, pid));
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_process_that_has_ended_has_no_net_namespace() {
    let child = podrun_namespaces::Command::new("/bin/true").spawn().expect("true");
    let pidfd = child.into_pidfd();
    pidfd.wait().expect("our child");
    let error = Namespace::of_process(pidfd.as_fd(), Kind::Net).expect_err("it has ended");
    assert!(matches!(error, Error::OfProcess { source, .. } if source.raw_os_error() == Some(libc::ESRCH)));
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_pin_outlives_the_process_and_is_removed_as_often_as_one_likes() {
    require!(root);
    let leaks = LeakCheck::start();
    let directory = tempfile::tempdir().expect("a directory");
    let kinds = [Kind::Net, Kind::Ipc, Kind::Uts, Kind::Pid, Kind::Cgroup, Kind::Time, Kind::User];
    let waiting = Waiting::start(|command| _ = command.namespaces(kinds.into_iter().collect()));
    let ids: Vec<_> = kinds
        .iter()
        .map(|kind| {
            let namespace = of(&waiting, *kind);
            namespace.pin(directory.path().join(kind.name())).expect("a new name");
            namespace.id()
        })
        .collect();
    drop(waiting);
    for id in ids {
        let path = directory.path().join(id.kind.name());
        assert_eq!(Namespace::open(&path).expect("pinned").id(), id);
        assert!(unpin(&path).expect("pinned"));
        assert!(!path.exists());
        assert!(!unpin(&path).expect("gone is fine"));
    }
    drop(directory);
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_pin_never_takes_the_place_of_a_file() {
    require!(root);
    let leaks = LeakCheck::start();
    let directory = tempfile::tempdir().expect("a directory");
    let (taken, link, empty) =
        (directory.path().join("taken"), directory.path().join("link"), directory.path().join("empty"));
    fs::write(&taken, "precious").expect("a file");
    std::os::unix::fs::symlink(directory.path().join("elsewhere"), &link).expect("a link");
    for path in [&taken, &link] {
        let error = current(Kind::Net).pin(path).expect_err("taken");
        assert!(matches!(error, Error::Pin { source, .. } if source.raw_os_error() == Some(libc::EEXIST)));
        assert!(matches!(unpin(path), Err(Error::NotPin { .. })));
    }
    assert!(matches!(unpin(directory.path()), Err(Error::NotPin { .. })));
    assert_eq!(fs::read_to_string(&taken).expect("left alone"), "precious");

    // What a process leaves that died between the two steps of pin.
    fs::write(&empty, "").expect("a file");
    assert!(unpin(&empty).expect("half a pin"));
    assert!(!empty.exists());

    // The kernel refuses the caller's own mount namespace, which would hold itself alive.
    assert!(matches!(current(Kind::Mnt).pin(&empty), Err(Error::Pin { .. })));
    assert!(!empty.exists());
    drop(directory);
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn work_runs_inside_while_the_caller_stays_where_it_is() {
    require!(root, netns);
    let leaks = LeakCheck::start();
    let before = current(Kind::Net).id();
    let waiting = Waiting::start(|command| _ = command.namespaces(Kind::Net | Kind::Uts));
    let (net, uts) = (of(&waiting, Kind::Net), of(&waiting, Kind::Uts));
    let inside = on_thread_in(&net, || current(Kind::Net).id()).expect("root may");
    assert_eq!(inside, net.id());
    let both = on_thread_in_all([&net, &uts], || [current(Kind::Net).id(), current(Kind::Uts).id()]);
    assert_eq!(both.expect("root may"), [net.id(), uts.id()]);
    // The closure may borrow, and what it opens may leave: loopback is down in there, so the address is not ours.
    let name = String::from("127.0.0.1:0");
    let listener = on_thread_in(&net, || TcpListener::bind(&name)).expect("root may").expect("an address");
    assert!(TcpStream::connect(listener.local_addr().expect("bound")).is_err());
    assert_eq!(current(Kind::Net).id(), before);
    drop((waiting, net, uts, listener));
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_panic_inside_comes_out_with_its_payload() {
    require!(root);
    let own = current(Kind::Net);
    let caught = catch_unwind(AssertUnwindSafe(|| on_thread_in(&own, || std::panic::panic_any("boom"))));
    let payload = caught.expect_err("it panics");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"boom"));
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_thread_can_work_inside_a_mount_namespace() {
    require!(root);
    let leaks = LeakCheck::start();
    let waiting = Waiting::start(|command| _ = command.namespaces(Kinds::MNT));
    let mnt = of(&waiting, Kind::Mnt);
    assert_eq!(on_thread_in(&mnt, || current(Kind::Mnt).id()).expect("root may"), mnt.id());
    assert_ne!(current(Kind::Mnt).id(), mnt.id());
    drop((waiting, mnt));
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn what_needs_a_single_thread_is_refused_by_name() {
    require!(root, userns);
    let leaks = LeakCheck::start();
    let waiting = Waiting::start(|command| _ = command.namespaces(Kind::User | Kind::Mnt | Kind::Time));
    let refused = |result: Result<(), Error>| match result {
        Err(Error::MultiThreaded { what, threads }) => {
            assert!(threads > 1);
            what
        }
        other => panic!("{other:?}"),
    };
    // libtest runs each test on a thread beside the main one.
    assert_eq!(refused(of(&waiting, Kind::User).enter()), "entering a user namespace");
    assert_eq!(refused(of(&waiting, Kind::Mnt).enter()), "entering a mount namespace");
    assert_eq!(refused(of(&waiting, Kind::Time).enter()), "entering a time namespace");
    assert_eq!(refused(unshare(Kinds::USER)), "creating a user namespace");
    let process = "entering the user, mount or time namespace of a process";
    for kinds in [Kinds::USER, Kinds::MNT, Kinds::TIME] {
        assert_eq!(refused(enter_process(waiting.child.as_fd(), kinds)), process);
    }
    assert!(!threads::is_single_threaded().expect("proc"));
    drop(waiting);
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_single_threaded_process_joins_every_kind_by_descriptor() {
    require!(root, userns);
    let leaks = LeakCheck::start();
    let waiting = Waiting::start(|command| {
        let maps = IdMaps::identity();
        command.id_maps(maps.clone(), maps, SetGroups::Allow).namespaces(Kinds::ALL);
    });
    child::run(|| {
        let namespaces: Vec<Namespace> = Kind::ALL.map(|kind| of(&waiting, kind)).into();
        // Last comes the user namespace: inside it the others of the caller are out of reach.
        for namespace in namespaces.iter().rev() {
            namespace
                .enter()
                .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
            let kind = namespace.kind();
            let now = match kind {
                // Its process ids are not those of /proc any more, and entering moves children only.
                Kind::Pid => Namespace::for_children_of_current(kind),
                _ => Namespace::of_current(kind),
            };
            assert_eq!(now.expect("proc").id(), namespace.id());
        }
    });
    drop(waiting);
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn a_process_is_followed_into_several_namespaces_at_once() {
    require!(root, userns);
    let leaks = LeakCheck::start();
    let kinds = Kind::User | Kind::Mnt | Kind::Net | Kind::Uts;
    let waiting = Waiting::start(|command| _ = command.namespaces(kinds));
    child::run(|| {
        let ids: Vec<_> = kinds.iter().map(|kind| of(&waiting, kind).id()).collect();
        enter_process(waiting.child.as_fd(), kinds).expect("one thread, root");
        for id in ids {
            assert_eq!(current(id.kind).id(), id);
        }
        let error =
            enter_process(waiting.child.as_fd(), Kinds::EMPTY).expect_err("nothing to do is an error");
        assert!(
            matches!(error, Error::EnterProcess { source, .. } if source.raw_os_error() == Some(libc::EINVAL))
        );
    });
    drop(waiting);
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn unshare_moves_the_calling_thread_only() {
    require!(root, netns);
    let leaks = LeakCheck::start();
    let kinds = Kind::Net | Kind::Ipc | Kind::Uts | Kind::Mnt | Kind::Cgroup;
    let ids = || kinds.iter().map(|kind| current(kind).id()).collect::<Vec<_>>();
    let before = ids();
    let inside = thread::spawn(move || {
        unshare(kinds).expect("root may");
        kinds.iter().map(|kind| current(kind).id()).collect::<Vec<_>>()
    });
    let inside = inside.join().expect("no panic");
    assert!(before.iter().zip(&inside).all(|(old, new)| old.kind == new.kind && old != new));
    assert_eq!(ids(), before);
    leaks.finish();
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn unshare_of_pid_and_time_is_for_the_children() {
    require!(root);
    child::run(|| {
        let (pid, time) = (current(Kind::Pid).id(), current(Kind::Time).id());
        unshare(Kind::Pid | Kind::Time).expect("root may");
        assert_eq!((current(Kind::Pid).id(), current(Kind::Time).id()), (pid, time));
        assert_ne!(Namespace::for_children_of_current(Kind::Time).expect("proc").id(), time);
        // Without a first process the pid namespace cannot be opened yet.
        assert!(matches!(Namespace::for_children_of_current(Kind::Pid), Err(Error::Open { .. })));
    });
}

#[test]
#[file_serial(kernel)]
#[serial(kernel)]
fn id_maps_are_written_once() {
    require!(root, userns);
    let leaks = LeakCheck::start();
    let waiting = Waiting::start(|command| _ = command.namespaces(Kinds::USER));
    let uid = IdMaps::new([IdMap::new(0, 1000, 1), IdMap::new(1, 100_000, 65_535)]).expect("a good map");
    let gid = IdMaps::identity();
    write_id_maps(waiting.child.as_fd(), &uid, &gid, SetGroups::Deny).expect("root may");
    let read =
        |file: &str| fs::read_to_string(format!("/proc/{}/{file}", waiting.child.pid())).expect("proc");
    assert_eq!(read("uid_map").parse::<IdMaps>().expect("of the kernel"), uid);
    assert_eq!(read("gid_map").parse::<IdMaps>().expect("of the kernel"), gid);
    assert_eq!(read("setgroups"), "deny\n");

    let error = write_id_maps(waiting.child.as_fd(), &uid, &gid, SetGroups::Allow).expect_err("once only");
    assert!(
        matches!(error, Error::WriteIdMap { file: "gid_map", source, .. } if source.raw_os_error() == Some(libc::EPERM))
    );
    let own = PidFd::open(std::process::id().try_into().expect("a pid")).expect("ourselves");
    assert!(matches!(
        write_id_maps(own.as_fd(), &uid, &gid, SetGroups::Allow),
        Err(Error::WriteIdMap { .. })
    ));
    drop((waiting, own));
    leaks.finish();
}
