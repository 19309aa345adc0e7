//! Names of kernel parameters.

/// The parameters that Kubernetes allows everywhere: namespaced, without effect on the machine, and within the limits of
/// the Pod.
pub const SAFE: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Brings a name into the dotted form: where a `/` comes first, the separators change roles. See
/// [sysctl.d(5)](https://man7.org/linux/man-pages/man5/sysctl.d.5.html).
///
/// ```
/// assert_eq!(podrun_spec::sysctl::dotted("net/ipv4/tcp_rmem"), "net.ipv4.tcp_rmem");
/// ```
pub fn dotted(name: &str) -> String {
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        c => c,
    };
    match name.find(['.', '/']) {
        Some(first) if name.as_bytes()[first] == b'/' => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_tells_the_style() {
        for (written, expected) in [
            ("net.ipv4.tcp_rmem", "net.ipv4.tcp_rmem"),
            ("net/ipv4/tcp_rmem", "net.ipv4.tcp_rmem"),
            ("net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("net.ipv4.conf.eno2/100.rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("plain", "plain"),
        ] {
            assert_eq!(dotted(written), expected);
        }
    }
}
