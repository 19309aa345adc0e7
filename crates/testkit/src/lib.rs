//! Requirements, guards and leak counters for tests that need the kernel.
