//! cgroup v2 on directory fds: requests and limits, freeze, kill, events, pressure, statistics, device filter.
