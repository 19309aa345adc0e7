//! Runs a command with limits: `limited MILLICORES MEBIBYTES COMMAND [ARGUMENT...]`.
//!
//! The command starts in this process's cgroup and is moved as soon as it runs; a runtime clones it right into the cgroup
//! instead, with the fd that `Cgroup` hands out.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use podrun_cgroups::resources::{Limits, Policy, QosClass, Requests, apply, container_values};
use podrun_cgroups::{Cgroup, Hierarchy};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [millicores, mebibytes, command, rest @ ..] = &arguments[..] else {
        return Err("limited MILLICORES MEBIBYTES COMMAND [ARGUMENT...]".into());
    };
    let limits = Limits {
        millicores: Some(millicores.parse()?),
        memory: Some(mebibytes.parse::<u64>()? << 20),
        ..Limits::default()
    };
    let values = container_values(&Requests::default(), &limits, &Policy::new(QosClass::Burstable));
    print!("{values}");

    let root = Hierarchy::find()?.open_root()?;
    root.enable(values.controllers())?;
    let name = format!("limited-{}", std::process::id());
    let cgroup = root.create_child(&name)?;
    let result = apply(&cgroup, &values).map_err(Into::into).and_then(|()| run(&cgroup, command, rest));
    cgroup.remove_tree(Instant::now() + Duration::from_secs(10))?;
    result
}

#[expect(
    clippy::disallowed_methods,
    reason = "to run the command that its user names is what this example is for"
)]
fn run(cgroup: &Cgroup, command: &str, arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let mut child = Command::new(command).args(arguments).spawn()?;
    let moved = cgroup.add_process(child.id());
    if moved.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    moved?;
    let stats = cgroup.stats()?;
    println!("{command}: {status}, {:?} of CPU time", stats.cpu.usage.duration());
    println!("throttled for {:?}", stats.cpu.throttled.duration());
    if let Some(memory) = stats.memory {
        println!("at most {:?} bytes, {} killed", memory.peak, memory.events.oom_kill);
    }
    Ok(())
}
