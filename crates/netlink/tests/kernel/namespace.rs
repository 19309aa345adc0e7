//! A network namespace for one test.

use std::fs::File;
use std::thread;

use nix::sched::CloneFlags;
use podrun_netlink::{NewLink, Peer, Rtnetlink};
use podrun_testkit::LeakCheck;

/// Calls `body` on a thread in a new network namespace, and checks that nothing is left when the thread has ended.
pub(crate) fn in_new(body: impl FnOnce(&mut Rtnetlink) + Send) {
    let leaks = LeakCheck::start();
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            body(&mut Rtnetlink::open().unwrap());
        });
        if let Err(payload) = inside.join() {
            std::panic::resume_unwind(payload);
        }
    });
    leaks.finish();
}

/// Makes another network namespace, which lives as long as the file is open or something is in it.
pub(crate) fn another() -> File {
    thread::scope(|scope| {
        let made = scope.spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        made.join().unwrap()
    })
}

/// Makes a veth pair `a` and `b`, both up, and returns their indexes.
pub(crate) fn veth(here: &mut Rtnetlink) -> (u32, u32) {
    let a = here.create_link(&NewLink::veth("a", Peer::new("b")).up()).unwrap();
    here.set_up("b").unwrap();
    (a, here.link("b").unwrap().index)
}
