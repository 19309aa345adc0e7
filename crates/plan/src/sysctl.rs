//! Kernel parameters of a Pod.

use podrun_spec::model::PodSpec;
use podrun_spec::sysctl::{SAFE, dotted};

use crate::fault::PlanFault;

/// Returns the parameters to set, dotted, in the order of their names.
pub(crate) fn sysctls(spec: &PodSpec, faults: &mut Vec<PlanFault>) -> Vec<(String, String)> {
    let mut set = Vec::new();
    for (name, value) in &spec.security.sysctls {
        let dotted = dotted(name);
        if !SAFE.contains(&dotted.as_str()) {
            faults.push(PlanFault::SysctlNotAllowed { name: name.clone() });
        } else if spec.host_network && dotted.starts_with("net.") {
            faults.push(PlanFault::SysctlOfHost { name: name.clone(), namespace: "net" });
        } else if spec.host_ipc && !dotted.starts_with("net.") {
            faults.push(PlanFault::SysctlOfHost { name: name.clone(), namespace: "ipc" });
        } else {
            set.push((dotted, value.clone()));
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::pod;

    fn planned(name: &str, change: impl Fn(&mut PodSpec)) -> (Vec<(String, String)>, Vec<String>) {
        let mut pod = pod("web");
        pod.spec.security.sysctls.insert(name.to_owned(), "1".to_owned());
        change(&mut pod.spec);
        let mut faults = Vec::new();
        let set = sysctls(&pod.spec, &mut faults);
        (set, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn safe_parameters_are_set() {
        let (set, faults) = planned("net/ipv4/ip_unprivileged_port_start", |_| {});
        assert_eq!(set, [("net.ipv4.ip_unprivileged_port_start".to_owned(), "1".to_owned())]);
        assert!(faults.is_empty());
    }

    #[test]
    fn others_and_those_of_host_namespaces_are_forbidden() {
        let none = |_: &mut PodSpec| {};
        let net = |spec: &mut PodSpec| spec.host_network = true;
        let ipc = |spec: &mut PodSpec| spec.host_ipc = true;
        for (name, change, expected) in [
            ("kernel.msgmax", &none as &dyn Fn(&mut PodSpec), "\"kernel.msgmax\" not allowlisted"),
            ("kernel.core_pattern", &none, "\"kernel.core_pattern\" not allowlisted"),
            ("net.ipv4/../../kernel.core_pattern", &none, "not allowlisted"),
            ("net.ipv4.tcp_rmem", &net, "\"net.ipv4.tcp_rmem\" not allowed with host net enabled"),
            ("kernel.shm_rmid_forced", &ipc, "\"kernel.shm_rmid_forced\" not allowed with host ipc enabled"),
        ] {
            let (set, faults) = planned(name, change);
            assert!(set.is_empty(), "{name}");
            assert!(
                faults[0].starts_with("forbidden sysctl: ") && faults[0].ends_with(expected),
                "{faults:?}"
            );
        }
        // Each namespace guards its own parameters only.
        assert_eq!(planned("kernel.shm_rmid_forced", net).0.len(), 1);
        assert_eq!(planned("net.ipv4.tcp_rmem", ipc).0.len(), 1);
    }
}
