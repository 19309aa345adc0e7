//! Drives a liveness probe of a command, every half second, until it has failed three times in a row.
//!
//! `cargo run --example watch -- test -e /tmp/healthy`, as somebody who may make cgroups.

#![expect(clippy::print_stdout, reason = "an example may print")]

use std::time::Duration;

use podrun_cgroups::Hierarchy;
use podrun_probes::exec::DirectSpawner;
use podrun_probes::{
    Attempt, Container, Executor, Handler, Kind, Network, Observation, Pod, Prober, Run, Settings, Step,
    Verdict, probe_event,
};
use tokio::time::{Instant, sleep_until};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let name = format!("watch-{}", std::process::id());
    let cgroup = Hierarchy::find()?.open_root()?.create_child(&name)?;
    let spawner = DirectSpawner::new(cgroup.try_clone()?)?;
    let executor = Executor::new(spawner, Network::of_caller(), "127.0.0.1", "1.36");
    let handler = Handler::Exec(command);

    let settings = Settings { period: Duration::from_millis(500), ..Settings::new(Kind::Liveness) };
    let mut prober = Prober::new(settings, Duration::ZERO);
    let run = Run::Running { since: Duration::ZERO, started: true };
    let running = Observation { pod: Pod::Active, container: Some(Container { id: 0, run }) };

    let epoch = Instant::now();
    while let Some(due) = prober.next_tick() {
        sleep_until(epoch + due).await;
        if prober.tick(epoch.elapsed(), &running).step != Step::Probe {
            continue;
        }
        let result = executor.probe(&handler, settings.timeout).await;
        if let Some(event) = probe_event(settings.kind, result.as_ref()) {
            println!("{:?} {}: {}", epoch.elapsed(), event.reason, event.message);
        }
        if prober.finish(Attempt::from(&result)) == Some(Verdict::Failure) {
            println!("here a kubelet kills the container");
            break;
        }
    }
    cgroup.remove_tree(std::time::Instant::now() + Duration::from_secs(10))?;
    Ok(())
}
