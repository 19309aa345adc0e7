//! The init program on its own, so that this crate's tests need no other package.

fn main() -> std::io::Result<()> {
    // SAFETY: the first and only call, in a program of one thread that has opened nothing yet.
    unsafe { podrun_container::init::run() }
}
