//! What a kubelet on Linux rejects for good.

use podrun_spec::model::Pod;

use crate::fault::PlanFault;
use crate::sysctl::sysctls;

/// Why this node can never run a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The kubelet's word: `PodOSNotSupported`.
    pub reason: &'static str,
    /// Its words; in a status after `Pod was rejected: `.
    pub message: String,
}

/// Returns why the kubelet of any Linux node would reject a Pod, if it would.
pub fn rejection(pod: &Pod) -> Option<Rejection> {
    let mut faults = Vec::new();
    sysctls(&pod.spec, &mut faults);
    let forbidden = faults.iter().map(PlanFault::to_string).next();
    let sysctl = forbidden.map(|message| Rejection { reason: "SysctlForbidden", message });
    sysctl.or_else(|| {
        let os = pod.spec.os.as_deref().filter(|os| *os != "linux");
        os.map(|_| Rejection {
            reason: "PodOSNotSupported",
            message: "Failed to admit pod as the OS field doesn't match node OS".to_owned(),
        })
    })
}
