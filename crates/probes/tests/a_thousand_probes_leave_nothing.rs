//! Descriptors, threads, cgroups and processes after many probes are those before. One test, as it counts for the
//! whole process.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{LONG, Server, TestCgroup, answer};
use podrun_namespaces::{Kind, Namespace};
use podrun_probes::exec::DirectSpawner;
use podrun_probes::{Executor, Handler, HttpGet, Network, TcpSocket};
use podrun_testkit::{LeakCheck, require};

/// Descriptors, threads, and children of this process that nobody has reaped.
#[derive(Debug)]
struct Counts {
    descriptors: usize,
    threads: usize,
    children: String,
}

fn counts() -> Counts {
    let entries = |path| fs::read_dir(path).expect("proc").count();
    let mut children = String::new();
    for thread in fs::read_dir("/proc/self/task").expect("proc") {
        // A thread that has just ended has none.
        children +=
            &fs::read_to_string(thread.expect("an entry").path().join("children")).unwrap_or_default();
    }
    Counts { descriptors: entries("/proc/self/fd"), threads: entries("/proc/self/task"), children }
}

/// Waits until there is no more than before: nobody joins the short threads, so some may have been counted.
async fn settle(before: &Counts) {
    let is_flat = |now: &Counts| {
        let threads = now.threads <= before.threads;
        threads && now.descriptors <= before.descriptors && now.children == before.children
    };
    let deadline = Instant::now() + LONG;
    while !is_flat(&counts()) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let after = counts();
    assert!(is_flat(&after), "{before:?} {after:?}");
}

#[test]
fn descriptors_threads_and_processes_stay_flat() {
    require!(root, cgroup2, netns);
    let group = TestCgroup::new();
    // What the commands leave behind carries the name of their cgroup.
    let name = group.cgroup.path().file_name().expect("a name").to_string_lossy().into_owned();
    let leaks = LeakCheck::only(&format!("{name}/"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(a_thousand_probes(&group));
    drop(runtime);
    leaks.finish();
}

async fn a_thousand_probes(group: &TestCgroup) {
    let server = Server::http(|_| answer(200, "", "")).await;
    let spawner = DirectSpawner::new(group.handle()).expect("/dev/null");
    let own_net = Namespace::of_current(Kind::Net).expect("proc");
    let executor = Executor::new(spawner, Network::of_namespace(own_net), "127.0.0.1", "1.36");
    let shell = |script: &str| Handler::Exec(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
    let good = Handler::Exec(vec!["/bin/true".to_owned()]);
    let bad = shell("exit 1");
    let forking = shell("(setsid sh -c 'sleep 1000 & sleep 1000' >/dev/null 2>&1 &)");
    let hanging = shell("setsid sleep 1000 & sleep 1000");
    let missing = Handler::Exec(vec!["/no/such/program".to_owned()]);
    let get = Handler::HttpGet(HttpGet::new(server.port()));
    let socket = Handler::TcpSocket(TcpSocket { host: None, port: server.port() });
    let timeout = Duration::from_millis(20);

    // Once each, for what is made once and kept.
    for handler in [&good, &bad, &forking, &hanging, &missing, &get, &socket] {
        drop(executor.probe(handler, LONG.min(timeout * 10)).await);
    }
    let before = counts();
    for round in 0..1000 {
        let outcome = executor.probe(if round % 2 == 0 { &good } else { &bad }, LONG).await;
        assert_eq!(outcome.expect("it starts").is_success(), round % 2 == 0);
        if round % 20 == 0 {
            assert!(executor.probe(&forking, LONG).await.expect("it starts").is_success());
            assert!(!executor.probe(&hanging, timeout).await.expect("it starts").is_success());
            assert!(executor.probe(&missing, LONG).await.is_err());
        }
        if round % 10 == 0 {
            assert!(executor.probe(&get, LONG).await.expect("attempted").is_success());
            assert!(executor.probe(&socket, LONG).await.expect("attempted").is_success());
        }
    }
    settle(&before).await;
    group.assert_empty();
}
