//! Prints the queueing disciplines, classes and filters of a link, as `tc -s` does.

#![expect(clippy::print_stdout, reason = "an example shows something")]

use podrun_netlink::Rtnetlink;
use podrun_tc::{Handle, TrafficControl};

fn main() -> podrun_tc::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "lo".to_owned());
    let mut netlink = Rtnetlink::open()?;
    let link = netlink.link(name.as_str())?.index;
    let mut tc = TrafficControl::new(&mut netlink)?;
    let qdiscs = tc.qdiscs(link)?;
    for found in &qdiscs {
        println!("{} at {}: {:?}", found.qdisc.handle, found.qdisc.parent, found.qdisc.kind);
        println!("    {:?}", found.statistics);
    }
    for found in tc.classes(link)? {
        println!("{:?}", found.class);
        println!("    {:?}", found.statistics);
    }
    let roots = qdiscs.iter().map(|found| found.qdisc.handle);
    for parent in roots.chain([Handle::CLSACT_INGRESS, Handle::CLSACT_EGRESS]) {
        for found in tc.filters(link, parent)? {
            println!("{:?}", found.filter);
        }
    }
    Ok(())
}
