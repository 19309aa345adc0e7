//! Containers on a real kernel. The init they run under is this package's example `init`, and what lies in wait for
//! others the example `tracer`, which cargo builds before the tests.

mod adoption;
mod common;
mod exec;
mod exec_hostile;
mod hostile;
mod image_volumes;
mod isolation;
mod lifecycle;
mod start_hostile;
mod volumes;
