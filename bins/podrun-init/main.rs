//! The init of a Pod: started by podrun, never by hand.

fn main() -> std::io::Result<()> {
    // SAFETY: the first and only call, in a program of one thread that has opened nothing yet.
    unsafe { podrun_container::init::run() }
}
