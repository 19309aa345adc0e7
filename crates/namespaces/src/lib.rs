//! Linux namespaces and pidfds: create, join, pin, compare; clone3 into a cgroup; id maps.
//!
//! What it does:
//!
//! - [`Kind`] and [`Kinds`]: the eight kinds of namespaces and typed sets of them;
//! - [`Namespace`]: an open namespace file; [`Namespace::enter`] joins it, [`Namespace::pin`] keeps it alive
//!   under a path, [`NamespaceId`] tells whether two are the same;
//! - [`Command`]: starts a program in new namespaces and straight into a cgroup, with exactly the file
//!   descriptors it is given; safe to use from a multi-threaded process;
//! - [`clone3`]: the bare system call for those who run their own code in the child;
//! - [`PidFd`] and [`Child`]: signal and wait for a process without the races of numeric ids;
//! - [`IdMaps`]: checked user and group id maps of user namespaces;
//! - [`unshare`], [`enter_process`], [`on_thread_in`] and [`threads`]: moving the calling thread, with the
//!   kernel's rules about threads checked and named.
//!
//! What it does not do: no mounting of root file systems, no network set-up, no cgroup files, no capabilities,
//! no seccomp. It never prints, reads no environment variables and starts no program but the one it is told to.
//!
//! Everything that crosses the border is an [`OwnedFd`](std::os::fd::OwnedFd) or a
//! [`BorrowedFd`](std::os::fd::BorrowedFd). A mounted `/proc` is needed by everything that looks up or pins a
//! namespace; [`Command`] and [`clone3`] work without. Linux 5.11 or newer.
//!
//! ```
//! use podrun_namespaces::{Kind, Namespace};
//!
//! # fn main() -> podrun_namespaces::Result<()> {
//! let net = Namespace::of_current(Kind::Net)?;
//! assert_eq!(net.kind(), Kind::Net);
//! assert_eq!(net.id(), Namespace::of_current(Kind::Net)?.id());
//! println!("this thread is in {}", net.id()); // net:[4026531840]
//! # Ok(())
//! # }
//! ```

mod child;
mod clone;
mod command;
mod enter;
mod error;
mod idmap;
mod kinds;
mod namespace;
mod pidfd;
mod pin;
mod sys;
pub mod threads;

pub use clone::{CloneArgs, Cloned, clone3};
pub use command::{Child, Command};
pub use enter::{enter_process, unshare};
pub use error::{Error, Result, Step};
pub use idmap::{IdMap, IdMaps, SetGroups, write_id_maps};
pub use kinds::{Kind, Kinds};
pub use namespace::{Namespace, NamespaceId};
pub use pidfd::{ExitStatus, PidFd};
pub use pin::unpin;
pub use threads::{on_thread_in, on_thread_in_all};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
