use std::fs;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::incoming::{Fetch, Incoming};
use super::session::{Layer, Session};
use super::*;
use crate::limits::Limits;
use crate::testing::{TarFile, done, gzip};

mod check;
mod crash;
mod fetch;
mod full;
mod join;
mod lease;
mod names;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::open(&dir.path().join("store")).expect("a new store");
    (dir, store)
}

fn entries(store: &Store, part: &str) -> usize {
    fs::read_dir(store.path().join(part)).expect("read").count()
}
