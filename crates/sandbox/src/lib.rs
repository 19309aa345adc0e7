//! The context that the containers of a Pod share: namespaces, cgroup, volumes, init.
