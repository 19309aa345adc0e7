//! One container in a Pod sandbox: root file system, mounts, security, spawn, exit, logs.
