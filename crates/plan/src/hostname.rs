//! The host name of a Pod.

use podrun_spec::model::Pod;

use crate::fault::PlanFault;

/// The longest label of a domain name; the kubelet cuts host names to it.
const LABEL_MAX: usize = 63;
/// `__NEW_UTS_LEN`: the longest name that sethostname(2) takes.
const UTS_MAX: usize = 64;
/// The names of a Pod.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostName {
    /// Without the domain: `web`.
    pub(crate) short: String,
    /// `sub.default.svc.cluster.local`, for Pods with a subdomain.
    pub(crate) domain: Option<String>,
    /// What the kernel is told, and `HOSTNAME` says.
    pub(crate) kernel: String,
}

impl HostName {
    /// Returns the names in the order of the hosts file: the fully qualified one first.
    pub(crate) fn names(&self) -> Vec<String> {
        let qualified = self.domain.as_ref().map(|domain| format!("{}.{domain}", self.short));
        qualified.into_iter().chain([self.short.clone()]).collect()
    }
}

/// Returns the host name of a Pod that has a UTS namespace of its own.
///
/// `hostnameOverride` stands alone, without any domain. Otherwise the name is `hostname` or the Pod's, and it has a
/// domain where there is a `subdomain`; `setHostnameAsFQDN` then hands the whole name to the kernel.
pub(crate) fn host_name(pod: &Pod, cluster_domain: &str) -> Result<HostName, PlanFault> {
    let spec = &pod.spec;
    if let Some(name) = &spec.hostname_override {
        return Ok(HostName { short: name.clone(), domain: None, kernel: name.clone() });
    }
    let short = cut(spec.hostname.as_deref().unwrap_or(&pod.meta.name));
    let subdomain = spec.subdomain.as_ref().filter(|subdomain| !subdomain.is_empty());
    let domain = subdomain.map(|sub| format!("{sub}.{}.svc.{cluster_domain}", pod.meta.namespace));
    let kernel = match &domain {
        Some(domain) if spec.set_hostname_as_fqdn => {
            let fqdn = format!("{short}.{domain}");
            if fqdn.len() > UTS_MAX {
                return Err(PlanFault::FqdnTooLong { fqdn });
            }
            fqdn
        }
        _ => short.clone(),
    };
    Ok(HostName { short, domain, kernel })
}

/// Cuts a name to the length of a label; what then ends it must not be a separator.
fn cut(name: &str) -> String {
    if name.len() <= LABEL_MAX {
        return name.to_owned();
    }
    let end = (0..=LABEL_MAX).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    name[..end].trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::pod;

    #[test]
    fn the_pods_name_is_its_host_name() {
        let name = host_name(&pod("web"), "cluster.local").unwrap();
        assert_eq!(name, HostName { short: "web".into(), domain: None, kernel: "web".into() });
        assert_eq!(host_name(&pod("a.b"), "cluster.local").unwrap().kernel, "a.b");
    }

    #[test]
    fn names_that_are_too_long_are_cut() {
        let long = format!("{}-.{}", "a".repeat(61), "b".repeat(20));
        assert_eq!(host_name(&pod(&long), "cluster.local").unwrap().kernel, "a".repeat(61));
        assert_eq!(host_name(&pod(&"c".repeat(63)), "cluster.local").unwrap().kernel, "c".repeat(63));
        assert_eq!(host_name(&pod(&"c".repeat(64)), "cluster.local").unwrap().kernel, "c".repeat(63));
    }

    #[test]
    fn hostname_subdomain_and_fqdn() {
        let mut pod = pod("web");
        pod.spec.hostname = Some("h".into());
        assert_eq!(host_name(&pod, "cluster.local").unwrap().kernel, "h");

        pod.spec.set_hostname_as_fqdn = true;
        assert_eq!(
            host_name(&pod, "cluster.local").unwrap().kernel,
            "h",
            "without a subdomain there is no domain"
        );

        pod.spec.subdomain = Some("sub".into());
        let name = host_name(&pod, "cluster.local").unwrap();
        assert_eq!(name.kernel, "h.sub.default.svc.cluster.local");
        assert_eq!(name.names(), ["h.sub.default.svc.cluster.local", "h"]);

        pod.spec.set_hostname_as_fqdn = false;
        assert_eq!(host_name(&pod, "cluster.local").unwrap().kernel, "h");

        pod.spec.set_hostname_as_fqdn = true;
        pod.spec.hostname_override = Some("other.example".into());
        let name = host_name(&pod, "cluster.local").unwrap();
        assert_eq!(name.names(), ["other.example"]);
        assert_eq!(name.kernel, "other.example");
    }

    #[test]
    fn a_qualified_name_must_fit_the_kernel() {
        let mut pod = pod("web");
        pod.spec.set_hostname_as_fqdn = true;
        // "." and ".sub.default.svc.cluster.local" are 30 characters.
        pod.spec.subdomain = Some("sub".into());
        pod.spec.hostname = Some("h".repeat(34));
        assert_eq!(host_name(&pod, "cluster.local").unwrap().kernel.len(), 64);
        pod.spec.hostname = Some("h".repeat(35));
        let fault = host_name(&pod, "cluster.local").unwrap_err().to_string();
        assert_eq!(
            fault,
            format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {}.sub.default.svc.cluster.local \
                 is too long (64 characters is the max, 65 characters requested)",
                "h".repeat(35)
            )
        );
    }
}
