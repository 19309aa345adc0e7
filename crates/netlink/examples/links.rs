//! Prints the links of this network namespace, with their addresses and routes.

#![expect(clippy::print_stdout, reason = "an example shows something")]

use podrun_netlink::{LinkFilter, RouteFilter, Rtnetlink};

fn main() -> Result<(), podrun_netlink::Error> {
    let mut here = Rtnetlink::open()?;
    for link in here.links(LinkFilter::new())? {
        let kind = link.kind.as_deref().unwrap_or("-");
        let (name, state, mtu) = (&link.name, link.state, link.mtu);
        println!("{} {name} kind {kind} mtu {mtu} {state:?}", link.index);
        for address in here.addresses(Some(link.index))? {
            println!("    {}", address.network);
        }
        for route in here.routes(RouteFilter::new().link(link.index))? {
            println!("    {route}");
        }
        let counters = link.statistics;
        println!("    {} bytes in, {} bytes out", counters.rx_bytes, counters.tx_bytes);
    }
    Ok(())
}
