//! Prints which controllers this process's cgroup has, and who holds the others.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use podrun_cgroups::{Controller, Hierarchy, Result};

fn main() -> Result<()> {
    let hierarchy = Hierarchy::find()?;
    let cgroup = hierarchy.open_own()?;
    println!("{} (mounted at {})", cgroup.path().display(), hierarchy.mount.display());
    for controller in Controller::ALL {
        let availability = cgroup.availability(controller)?;
        println!("{:8} {availability}", controller.name());
    }
    Ok(())
}
