//! What a Pod will be on this host: namespaces, cgroup values, mounts, process attributes; a pure function.
