//! Linux namespaces and pidfds: create, join, pin, compare; clone3 into a cgroup; id maps.
