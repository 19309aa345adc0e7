//! The resolver's settings of a Pod, as the kubelet forms them and a runtime writes them.

use std::fmt::Write as _;

use podrun_spec::model::{DnsConfig, DnsPolicy, Pod};

use crate::facts::NetworkFacts;
use crate::model::Notice;

/// What resolvers take: more is cut off and told by an event.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;
/// glibc 2.28 aborts over a search domain with more than 255 characters.
const MAX_DOMAIN: usize = 253;

/// The lines of a resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// Returns the text of a Pod's /etc/resolv.conf, and what had to be left out.
pub(crate) fn resolv_conf(pod: &Pod, facts: &NetworkFacts) -> (String, Vec<Notice>) {
    let mut notices = Vec::new();
    let mut resolver = base(pod, facts, &mut notices);
    resolver.append(&pod.spec.dns_config);
    resolver.fit(&mut notices);
    (resolver.text(), notices)
}

/// Returns what the policy alone gives.
fn base(pod: &Pod, facts: &NetworkFacts, notices: &mut Vec<Notice>) -> Resolver {
    let policy = pod.spec.dns_policy;
    let of_cluster = match policy {
        DnsPolicy::None => return Resolver::default(),
        DnsPolicy::Default => false,
        DnsPolicy::ClusterFirst => !pod.spec.host_network,
        DnsPolicy::ClusterFirstWithHostNet => true,
    };
    let host = facts.resolv_conf.as_deref().map(Resolver::parse);
    if of_cluster && !facts.cluster_dns.is_empty() {
        return Resolver {
            nameservers: facts.cluster_dns.iter().map(ToString::to_string).collect(),
            searches: cluster_searches(&pod.meta.namespace, &facts.cluster_domain, host),
            options: vec!["ndots:5".to_owned()],
        };
    }
    // ClusterFirst is what a Pod has that says nothing, so a machine without a cluster does not complain about it.
    if policy == DnsPolicy::ClusterFirstWithHostNet {
        notices.push(missing_cluster_dns(pod));
    }
    host.unwrap_or_else(|| Resolver {
        nameservers: vec!["127.0.0.1".to_owned()],
        searches: vec![".".to_owned()],
        options: Vec::new(),
    })
}

fn cluster_searches(namespace: &str, domain: &str, host: Option<Resolver>) -> Vec<String> {
    let of_host = host.unwrap_or_default().searches;
    if domain.is_empty() {
        return of_host;
    }
    let of_cluster = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    without_duplicates(of_cluster.into_iter().chain(of_host))
}

fn missing_cluster_dns(pod: &Pod) -> Notice {
    let (name, namespace, uid) = (&pod.meta.name, &pod.meta.namespace, &pod.meta.uid);
    Notice {
        reason: "MissingClusterDNS".to_owned(),
        message: format!(
            "pod: \"{name}_{namespace}({uid})\". kubelet does not have ClusterDNS IP configured and cannot create Pod \
             using \"ClusterFirst\" policy. Falling back to \"Default\" policy."
        ),
    }
}

impl Resolver {
    /// Reads a resolv.conf: `nameserver` lines add up, the last `search` line counts, options are merged by name.
    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
                Some("search") => {
                    let domains = words.filter(|domain| *domain != ".");
                    resolver.searches =
                        domains.map(|domain| domain.strip_suffix('.').unwrap_or(domain).to_owned()).collect();
                }
                Some("options") => words.for_each(|option| resolver.set_option(option.to_owned())),
                // Comments among others.
                _ => {}
            }
        }
        resolver
    }

    /// Adds what `dnsConfig` says.
    fn append(&mut self, config: &DnsConfig) {
        let joined = |own: &mut Vec<String>, more: &[String]| {
            without_duplicates(std::mem::take(own).into_iter().chain(more.iter().cloned()))
        };
        self.nameservers = joined(&mut self.nameservers, &config.nameservers);
        self.searches = joined(&mut self.searches, &config.searches);
        for (name, value) in &config.options {
            let value = value.as_deref().filter(|value| !value.is_empty());
            self.set_option(value.map_or_else(|| name.clone(), |value| format!("{name}:{value}")));
        }
    }

    /// Takes an option in place of one of the same name.
    fn set_option(&mut self, option: String) {
        let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
        match self.options.iter_mut().find(|own| name(own) == name(&option)) {
            Some(own) => *own = option,
            None => self.options.push(option),
        }
    }

    /// Leaves out what resolvers do not take.
    fn fit(&mut self, notices: &mut Vec<Notice>) {
        let mut tell = |line: &str, omitted: &str, applied: &str, entries: &[String]| {
            let message = format!(
                "{line} limits were exceeded, some {omitted} have been omitted, the applied {applied} line is: {}",
                entries.join(" ")
            );
            notices.push(Notice { reason: "DNSConfigForming".to_owned(), message });
        };
        if self.nameservers.len() > MAX_NAMESERVERS {
            self.nameservers.truncate(MAX_NAMESERVERS);
            tell("Nameserver", "nameservers", "nameserver", &self.nameservers);
        }
        let written = self.searches.len();
        self.searches.truncate(MAX_SEARCHES);
        self.searches.retain(|domain| domain.len() <= MAX_DOMAIN);
        while self.searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
            self.searches.pop();
        }
        if self.searches.len() < written {
            tell("Search Line", "search paths", "search", &self.searches);
        }
    }

    /// Returns the file as containerd writes it.
    fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            writeln!(text, "search {}", self.searches.join(" ")).expect("writing to a string");
        }
        for nameserver in &self.nameservers {
            writeln!(text, "nameserver {nameserver}").expect("writing to a string");
        }
        if !self.options.is_empty() {
            writeln!(text, "options {}", self.options.join(" ")).expect("writing to a string");
        }
        text
    }
}

fn without_duplicates(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for text in texts {
        if !kept.contains(&text) {
            kept.push(text);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{host, pod};

    const HOST: &str = "# made by hand\nnameserver 192.0.2.53\nnameserver 192.0.2.54 # second\nsearch old.example\n\
                        search example.org. corp.example .\noptions timeout:1 rotate\noptions timeout:2\n";

    fn facts(cluster_dns: &[&str]) -> NetworkFacts {
        let cluster_dns = cluster_dns.iter().map(|ip| ip.parse().unwrap()).collect();
        NetworkFacts { resolv_conf: Some(HOST.to_owned()), cluster_dns, ..host().network }
    }

    fn formed(policy: DnsPolicy, config: DnsConfig, facts: &NetworkFacts) -> (String, Vec<Notice>) {
        let mut pod = pod("web");
        pod.spec.dns_policy = policy;
        pod.spec.dns_config = config;
        resolv_conf(&pod, facts)
    }

    fn config(nameservers: &[&str], searches: &[&str], options: &[(&str, Option<&str>)]) -> DnsConfig {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let option = |(name, value): &(&str, Option<&str>)| ((*name).to_owned(), value.map(str::to_owned));
        DnsConfig {
            nameservers: texts(nameservers),
            searches: texts(searches),
            options: options.iter().map(option).collect(),
        }
    }

    #[test]
    fn default_is_the_machines() {
        let expected = "search example.org corp.example\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n\
                        options timeout:2 rotate\n";
        for policy in [DnsPolicy::Default, DnsPolicy::ClusterFirst] {
            assert_eq!(formed(policy, DnsConfig::default(), &facts(&[])), (expected.to_owned(), vec![]));
        }
        let (text, notices) = formed(DnsPolicy::ClusterFirstWithHostNet, DnsConfig::default(), &facts(&[]));
        assert_eq!(text, expected);
        assert_eq!(
            (notices[0].reason.as_str(), notices[0].message.as_str()),
            (
                "MissingClusterDNS",
                "pod: \"web_default(7f3c)\". kubelet does not have ClusterDNS IP configured and cannot create Pod \
                 using \"ClusterFirst\" policy. Falling back to \"Default\" policy."
            )
        );
    }

    #[test]
    fn cluster_first_asks_the_cluster() {
        let facts = facts(&["10.96.0.10", "fd00::10"]);
        let (text, _) = formed(DnsPolicy::ClusterFirst, DnsConfig::default(), &facts);
        assert_eq!(
            text,
            "search default.svc.cluster.local svc.cluster.local cluster.local example.org corp.example\n\
             nameserver 10.96.0.10\nnameserver fd00::10\noptions ndots:5\n"
        );
        let mut of_host = pod("web");
        of_host.spec.host_network = true;
        assert!(resolv_conf(&of_host, &facts).0.contains("192.0.2.53"), "ClusterFirst with hostNetwork");
        of_host.spec.dns_policy = DnsPolicy::ClusterFirstWithHostNet;
        assert!(resolv_conf(&of_host, &facts).0.contains("10.96.0.10"));
        let without_domain = NetworkFacts { cluster_domain: String::new(), ..facts };
        let (text, _) = formed(DnsPolicy::ClusterFirst, DnsConfig::default(), &without_domain);
        assert!(text.starts_with("search example.org corp.example\n"), "{text}");
    }

    #[test]
    fn dns_config_is_merged() {
        let more = config(
            &["192.0.2.54", "198.51.100.1"],
            &["corp.example", "more.example"],
            &[("timeout", Some("9")), ("rotate", None), ("edns0", None), ("attempts", Some(""))],
        );
        assert_eq!(
            formed(DnsPolicy::Default, more, &facts(&[])).0,
            "search example.org corp.example more.example\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n\
             nameserver 198.51.100.1\noptions timeout:9 rotate edns0 attempts\n"
        );
        let alone = config(&["198.51.100.1"], &["a.example"], &[("ndots", Some("2"))]);
        assert_eq!(
            formed(DnsPolicy::None, alone, &facts(&["10.96.0.10"])).0,
            "search a.example\nnameserver 198.51.100.1\noptions ndots:2\n"
        );
    }

    #[test]
    fn what_resolvers_do_not_take_is_left_out_and_told() {
        let many: Vec<String> = (0..40).map(|n| format!("d{n}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let more = config(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"], &many, &[]);
        let (text, notices) = formed(DnsPolicy::None, more, &facts(&[]));
        assert_eq!(text.matches("nameserver").count(), 3);
        assert_eq!(text.lines().next().unwrap().split(' ').count(), 33);
        assert_eq!(
            notices[0].message,
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: \
             192.0.2.1 192.0.2.2 192.0.2.3"
        );
        assert!(notices[1].message.starts_with(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: d0."
        ));
        assert!(notices.iter().all(|notice| notice.reason == "DNSConfigForming"));

        let long: Vec<String> = (0..12).map(|n| format!("{n:02}{}", "x".repeat(210))).collect();
        let mut long: Vec<&str> = long.iter().map(String::as_str).collect();
        let (text, notices) = formed(DnsPolicy::None, config(&[], &long, &[]), &facts(&[]));
        assert_eq!(text.len() - "search \n".len(), 9 * 213 - 1, "nine domains fit into 2048 characters");
        assert_eq!(notices.len(), 1);

        let too_long = "y".repeat(254);
        long.truncate(1);
        long.insert(0, &too_long);
        let (text, notices) = formed(DnsPolicy::None, config(&[], &long, &[]), &facts(&[]));
        assert!(!text.contains('y') && notices.len() == 1);
    }

    #[test]
    fn a_machine_without_resolvers_asks_itself() {
        let none = NetworkFacts { resolv_conf: None, ..facts(&[]) };
        let (text, _) = formed(DnsPolicy::Default, DnsConfig::default(), &none);
        assert_eq!(text, "search .\nnameserver 127.0.0.1\n");
    }

    #[test]
    fn odd_lines_are_passed_over() {
        let parsed =
            Resolver::parse("nameserver\n;x\n#nameserver 1.1.1.1\n\n domain a\nsortlist b\nsearch\n");
        assert_eq!(parsed, Resolver::default());
    }
}
