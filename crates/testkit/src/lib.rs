//! What podrun's tests share: requirements, guards, leak counters and a small image.
//!
//! It does:
//! - say in a test's first line what the test needs, and make a skip visible ([`require!`]);
//! - count what a test left behind on the host ([`LeakCheck`]) and in its directory ([`TempRoot`]);
//! - give a test a network of its own ([`own_network`]);
//! - run a closure in a process with one thread ([`child::run`]), because libtest has many;
//! - find the built programs ([`podrun_bin`], [`init_bin`]) and build a busybox image ([`busybox_image`]);
//! - start the real registry server and put images into it ([`Registry`]).
//!
//! It does not clean up after a test: a test that leaves something behind should fail, not be helped.
//!
//! ```no_run
//! use podrun_testkit::{LeakCheck, TempRoot, require};
//!
//! // #[test]
//! // #[serial_test::file_serial(kernel)]
//! fn a_pod_leaves_nothing_behind() {
//!     require!(root, cgroup2, controller("memory"), kernel(6, 5));
//!     let leaks = LeakCheck::start();
//!     let root = TempRoot::new();
//!     // ... make a pod below root.path(), delete it ...
//!     root.close();
//!     leaks.finish();
//! }
//! ```

mod binaries;
pub mod child;
mod image;
mod leak;
mod ledger;
mod network;
mod proc_file;
mod registry;
mod require;
mod temp_root;

pub use binaries::{init_bin, podrun_bin};
pub use image::{BUSYBOX_REFERENCE, busybox_config, busybox_image, busybox_image_named, busybox_layer};
pub use leak::LeakCheck;
pub use network::{links, own_network};
pub use proc_file::cgroup2_mount;
pub use registry::{Answered, REGISTRY_PASSWORD, REGISTRY_USER, Registry, Reply};
pub use require::{Requirement, Skipped, is_missing};
pub use temp_root::TempRoot;
