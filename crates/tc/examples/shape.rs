//! Limits what a link sends for ten seconds; as root.

#![expect(clippy::print_stdout, reason = "an example shows something")]

use std::error::Error;
use std::thread;
use std::time::Duration;

use podrun_netlink::Rtnetlink;
use podrun_tc::{Limit, Rate, Shaper};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(link), Some(megabits)) = (arguments.next(), arguments.next()) else {
        return Err("usage: shape LINK MEGABITS".into());
    };
    let rate = Rate::from_bits_per_second(megabits.parse::<u64>()? * 1_000_000);
    let shaper = Shaper::new(link).to_peer(Limit::new(rate));
    let mut netlink = Rtnetlink::open()?;
    shaper.apply(&mut netlink)?;
    for _ in 0..10 {
        #[expect(clippy::disallowed_methods, reason = "there is nothing to wait for but the time")]
        thread::sleep(Duration::from_secs(1));
        if let Some(direction) = shaper.statistics(&mut netlink)?.to_peer {
            let total = direction.total;
            println!("{}, {} dropped, {} waiting", total.bytes, total.drops, total.backlog);
        }
    }
    for difference in shaper.verify(&mut netlink)? {
        println!("somebody changed something: {difference}");
    }
    shaper.remove(&mut netlink)?;
    Ok(())
}
