//! The text of /etc/hosts, line by line as the kubelet writes it.

use std::fmt::Write as _;
use std::net::IpAddr;

use podrun_spec::model::HostAlias;

use crate::model::HostsPlan;

/// Stands for an address that the Pod does not have yet.
const UNKNOWN: &str = "<pod IP>";

impl HostsPlan {
    /// Returns the text of the file for a Pod with these addresses.
    ///
    /// ```
    /// use podrun_plan::model::HostsPlan;
    /// let hosts = HostsPlan { names: vec!["web".to_owned()], ..HostsPlan::default() };
    /// assert!(hosts.text(&["10.88.0.5".parse()?]).ends_with("10.88.0.5\tweb\n"));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn text(&self, addresses: &[IpAddr]) -> String {
        self.lines(&addresses.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    /// Returns the text with a word in the place of the address.
    pub(crate) fn planned(&self) -> String {
        self.lines(&[UNKNOWN.to_owned()])
    }

    fn lines(&self, addresses: &[String]) -> String {
        let mut text = match &self.of_host {
            Some(host) => format!("# Kubernetes-managed hosts file (host network).\n{host}"),
            None => {
                let mut own = "# Kubernetes-managed hosts file.\n\
                               127.0.0.1\tlocalhost\n\
                               ::1\tlocalhost ip6-localhost ip6-loopback\n\
                               fe00::0\tip6-localnet\n\
                               fe00::0\tip6-mcastprefix\n\
                               fe00::1\tip6-allnodes\n\
                               fe00::2\tip6-allrouters\n"
                    .to_owned();
                for address in addresses {
                    writeln!(own, "{address}\t{}", self.names.join("\t")).expect("writing to a string");
                }
                own
            }
        };
        if !self.aliases.is_empty() {
            text.push_str("\n# Entries added by HostAliases.\n");
        }
        for HostAlias { ip, hostnames } in &self.aliases {
            writeln!(text, "{ip}\t{}", hostnames.join("\t")).expect("writing to a string");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(ip: &str, hostnames: &[&str]) -> HostAlias {
        HostAlias { ip: ip.into(), hostnames: hostnames.iter().map(|name| (*name).to_owned()).collect() }
    }

    const HEAD: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                        fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

    #[test]
    fn a_line_for_each_address_and_each_alias() {
        let mut hosts = HostsPlan {
            names: vec!["web.sub.ns.svc.cluster.local".into(), "web".into()],
            ..HostsPlan::default()
        };
        let addresses = ["10.1.2.3", "fd00::3"].map(|ip| ip.parse().unwrap());
        let own = "10.1.2.3\tweb.sub.ns.svc.cluster.local\tweb\nfd00::3\tweb.sub.ns.svc.cluster.local\tweb\n";
        assert_eq!(hosts.text(&addresses), format!("{HEAD}{own}"));

        hosts.aliases = vec![alias("1.2.3.4", &["foo.local", "bar.local"]), alias("fd00::9", &["baz"])];
        let aliases = "\n# Entries added by HostAliases.\n1.2.3.4\tfoo.local\tbar.local\nfd00::9\tbaz\n";
        assert_eq!(hosts.text(&addresses), format!("{HEAD}{own}{aliases}"));
    }

    #[test]
    fn with_the_hosts_network_the_hosts_file_is_repeated() {
        let of_host = Some("127.0.0.1 localhost\n192.0.2.1 node\n".to_owned());
        let mut hosts = HostsPlan { of_host, ..HostsPlan::default() };
        let whole = "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n192.0.2.1 node\n";
        assert_eq!(hosts.text(&[]), whole);
        hosts.aliases = vec![alias("1.2.3.4", &["foo"])];
        assert_eq!(hosts.text(&[]), format!("{whole}\n# Entries added by HostAliases.\n1.2.3.4\tfoo\n"));
    }
}
