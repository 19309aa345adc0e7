//! Ports of containers.

use k8s_openapi::api::core::v1 as api;

use super::container::Surroundings;
use super::{Cause, names, one_of};
use crate::path::Path;

pub(super) fn ports(
    ports: &[api::ContainerPort],
    path: &Path,
    around: &Surroundings,
    causes: &mut Vec<Cause>,
) {
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        if let Some(name) = port.name.as_ref().filter(|name| !name.is_empty()) {
            let reasons = names::port_name(name);
            let fine = reasons.is_empty();
            super::invalid_text(&path.child("name"), name, reasons, causes);
            if fine && ports[..index].iter().any(|earlier| earlier.name.as_ref() == Some(name)) {
                causes.push(Cause::duplicate(&path.child("name"), name));
            }
        }
        if port.container_port == 0 {
            causes.push(Cause::required(&path.child("containerPort"), ""));
        } else {
            causes.extend(number(&path.child("containerPort"), port.container_port));
        }
        if let Some(host_port) = port.host_port.filter(|port| *port != 0) {
            let path = path.child("hostPort");
            causes.extend(number(&path, host_port));
            if around.host_network && host_port != port.container_port {
                let why = "must match `containerPort` when `hostNetwork` is true";
                causes.push(Cause::invalid_raw(&path, host_port, why));
            }
        }
        one_of(&path.child("protocol"), port.protocol.as_ref(), &["SCTP", "TCP", "UDP"], causes);
    }
}

/// Returns what is wrong with the number of a port.
pub(super) fn number(path: &Path, port: i32) -> Option<Cause> {
    (!(1..=65535).contains(&port)).then(|| Cause::out_of_range(path, i64::from(port), 1, 65535))
}

/// Adds a cause for each port of the host that is among `taken` already, and takes the others.
pub(super) fn conflicts(
    ports: &[api::ContainerPort],
    path: &Path,
    taken: &mut Vec<String>,
    causes: &mut Vec<Cause>,
) {
    for (index, port) in ports.iter().enumerate() {
        let Some(number) = port.host_port.filter(|port| *port != 0) else { continue };
        let protocol = port.protocol.as_deref().unwrap_or_default();
        let key = format!("{protocol}/{}/{number}", port.host_ip.as_deref().unwrap_or_default());
        if taken.contains(&key) {
            causes.push(Cause::duplicate(&path.index(index).child("hostPort"), &key));
        } else {
            taken.push(key);
        }
    }
}
