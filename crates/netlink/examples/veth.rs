//! Joins two new network namespaces by a veth pair; as root. Both are gone when the program ends.

#![expect(clippy::print_stdout, reason = "an example shows something")]

use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use podrun_netlink::{NewAddress, NewLink, Peer, Route, Rtnetlink};

fn main() -> Result<(), Box<dyn Error>> {
    let red = new_netns()?;
    let blue = new_netns()?;
    let mut in_red = Rtnetlink::open_in(&red)?;
    let mut in_blue = Rtnetlink::open_in(&blue)?;

    let first =
        in_red.create_link(&NewLink::veth("to-blue", Peer::new("to-red").in_netns(blue.as_fd())).up())?;
    let second = in_blue.link("to-red")?.index;
    in_blue.set_up(second)?;
    in_red.add_address(first, &NewAddress::new("10.0.0.1/24".parse()?))?;
    in_blue.add_address(second, &NewAddress::new("10.0.0.2/24".parse()?))?;
    in_blue.add_route(&Route::default_via("10.0.0.1".parse()?))?;

    for (name, netns) in [("red", &mut in_red), ("blue", &mut in_blue)] {
        for address in netns.addresses(None)? {
            println!("{name}: link {} has {}", address.link, address.network);
        }
    }
    Ok(())
}

/// A network namespace belongs to a thread; the open file keeps it when the thread has ended.
fn new_netns() -> Result<File, Box<dyn Error>> {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    });
    Ok(made.join().expect("the thread does not panic")?)
}
