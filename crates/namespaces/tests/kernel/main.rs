//! What the crate asks of the kernel, and what the kernel does.
//!
//! Tests that count what is left on the host take turns: `file_serial` with those of other packages, `serial` below
//! it with those of this process, because a thread that waits for the file holds it open, which would count.

mod clone;
mod command;
mod namespace;
mod pidfd;
mod programs;
