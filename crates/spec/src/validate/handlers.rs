//! Probes and lifecycle hooks.

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::container::{Kind, Surroundings};
use super::{Cause, names, one_of, ports, signals};
use crate::path::Path;

pub(super) fn all(
    container: &api::Container,
    path: &Path,
    kind: Kind,
    around: &Surroundings,
    causes: &mut Vec<Cause>,
) {
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    if kind == Kind::Init {
        let why = "may not be set for init containers without restartPolicy=Always";
        let set = probes.iter().filter(|(_, probe)| probe.is_some()).map(|(field, _)| *field);
        let set = set.chain(container.lifecycle.is_some().then_some("lifecycle"));
        causes.extend(set.map(|field| Cause::forbidden(&path.child(field), why)));
        return;
    }
    if let Some(lifecycle) = &container.lifecycle {
        let path = path.child("lifecycle");
        let signal = lifecycle.stop_signal.as_ref().filter(|signal| !signal.is_empty());
        signals::stop_signal(signal, &around.os, &path.child("stopSignal"), causes);
        for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if let Some(hook) = hook {
                self::hook(hook, &path.child(field), around.grace, causes);
            }
        }
    }
    for (field, probe) in probes {
        if let Some(probe) = probe {
            self::probe(probe, field, &path.child(field), causes);
        }
    }
}

fn probe(probe: &api::Probe, which: &str, path: &Path, causes: &mut Vec<Cause>) {
    let mut handlers = Handlers { path, count: 0, causes };
    if let Some(action) = &probe.exec {
        handlers.add("exec", |path, causes| exec(action, path, causes));
    }
    if let Some(action) = &probe.http_get {
        handlers.add("httpGet", |path, causes| http_get(action, path, causes));
    }
    if let Some(action) = &probe.tcp_socket {
        handlers.add("tcpSocket", |path, causes| port(&action.port, path, causes));
    }
    if let Some(action) = &probe.grpc {
        handlers.add("grpc", |path, causes| causes.extend(ports::number(&path.child("port"), action.port)));
    }
    handlers.finish();
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if let Some(value) = value.filter(|value| *value < 0) {
            causes.push(Cause::invalid_raw(&path.child(field), value, "must be greater than or equal to 0"));
        }
    }
    if let Some(threshold) = probe.success_threshold.filter(|count| which != "readinessProbe" && *count != 1)
    {
        causes.push(Cause::invalid_raw(&path.child("successThreshold"), threshold, "must be 1"));
    }
    if let Some(grace) = probe.termination_grace_period_seconds {
        let path = path.child("terminationGracePeriodSeconds");
        if which == "readinessProbe" {
            causes.push(Cause::invalid_raw(&path, grace, "must not be set for readinessProbes"));
        } else if grace <= 0 {
            causes.push(Cause::invalid_raw(&path, grace, "must be greater than 0"));
        }
    }
}

fn hook(hook: &api::LifecycleHandler, path: &Path, grace: i64, causes: &mut Vec<Cause>) {
    let mut handlers = Handlers { path, count: 0, causes };
    if let Some(action) = &hook.exec {
        handlers.add("exec", |path, causes| exec(action, path, causes));
    }
    if let Some(action) = &hook.http_get {
        handlers.add("httpGet", |path, causes| http_get(action, path, causes));
    }
    if let Some(action) = &hook.tcp_socket {
        handlers.add("tcpSocket", |path, causes| port(&action.port, path, causes));
    }
    if let Some(action) = &hook.sleep {
        handlers.add("sleep", |path, causes| {
            if action.seconds < 0 || action.seconds > grace {
                let why =
                    format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                causes.push(Cause::invalid_raw(path, action.seconds, &why));
            }
        });
    }
    handlers.finish();
}

/// Counts handlers: the first one is checked, others are forbidden.
struct Handlers<'a> {
    path: &'a Path,
    count: usize,
    causes: &'a mut Vec<Cause>,
}

impl Handlers<'_> {
    fn add(&mut self, field: &str, check: impl FnOnce(&Path, &mut Vec<Cause>)) {
        let path = self.path.child(field);
        if self.count > 0 {
            self.causes.push(Cause::forbidden(&path, "may not specify more than 1 handler type"));
        } else {
            check(&path, self.causes);
        }
        self.count += 1;
    }

    fn finish(self) {
        if self.count == 0 {
            self.causes.push(Cause::required(self.path, "must specify a handler type"));
        }
    }
}

fn exec(action: &api::ExecAction, path: &Path, causes: &mut Vec<Cause>) {
    if action.command.as_ref().is_none_or(Vec::is_empty) {
        causes.push(Cause::required(&path.child("command"), ""));
    }
}

fn http_get(action: &api::HTTPGetAction, path: &Path, causes: &mut Vec<Cause>) {
    port(&action.port, path, causes);
    one_of(&path.child("scheme"), action.scheme.as_ref(), &["HTTP", "HTTPS"], causes);
    let fine = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let headers = path.child("httpHeaders");
    for (index, header) in action.http_headers.iter().flatten().enumerate().filter(|(_, h)| !fine(&h.name)) {
        let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex \
                   used for validation is '[-A-Za-z0-9]+')";
        causes.push(Cause::invalid(&headers, &header.name, why).at(&headers.index(index)));
    }
}

fn port(port: &IntOrString, path: &Path, causes: &mut Vec<Cause>) {
    let path = path.child("port");
    match port {
        IntOrString::Int(number) => causes.extend(ports::number(&path, *number)),
        IntOrString::String(name) => super::invalid_text(&path, name, names::port_name(name), causes),
    }
}
