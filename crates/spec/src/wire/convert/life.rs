//! Probes, hooks, stop signals and restart rules.

use std::time::Duration;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::container::each;
use super::{Result, present, string, unfit};
use crate::model::{
    ContainerLife, ContainerRestart, Hook, HttpGet, Port, Probe, ProbeHandler, RestartAction, RestartPolicy,
    RestartRule, TcpSocket,
};
use crate::path::Path;

pub(super) fn life(wire: &api::Container, path: &Path) -> Result<ContainerLife> {
    let probe = |field: &str, wire: &Option<api::Probe>| {
        wire.as_ref().map(|wire| self::probe(wire, &path.child(field))).transpose()
    };
    let lifecycle = wire.lifecycle.clone().unwrap_or_default();
    let below = path.child("lifecycle");
    let hook = |field: &str, wire: &Option<api::LifecycleHandler>| {
        wire.as_ref().map(|wire| self::hook(wire, &below.child(field))).transpose()
    };
    Ok(ContainerLife {
        startup: probe("startupProbe", &wire.startup_probe)?,
        liveness: probe("livenessProbe", &wire.liveness_probe)?,
        readiness: probe("readinessProbe", &wire.readiness_probe)?,
        post_start: hook("postStart", &lifecycle.post_start)?,
        pre_stop: hook("preStop", &lifecycle.pre_stop)?,
        stop_signal: present(lifecycle.stop_signal.as_ref()),
        restart: ContainerRestart {
            policy: restart_policy(wire.restart_policy.as_deref(), &path.child("restartPolicy"))?,
            rules: each(wire.restart_policy_rules.as_deref(), &path.child("restartPolicyRules"), rule)?,
        },
    })
}

/// Returns the restart policy of the Pod or of a container, where one is set.
pub(super) fn restart_policy(wire: Option<&str>, path: &Path) -> Result<Option<RestartPolicy>> {
    match wire {
        None | Some("") => Ok(None),
        Some("Always") => Ok(Some(RestartPolicy::Always)),
        Some("OnFailure") => Ok(Some(RestartPolicy::OnFailure)),
        Some("Never") => Ok(Some(RestartPolicy::Never)),
        Some(other) => unfit(path, other),
    }
}

fn rule(wire: &api::ContainerRestartRule, path: &Path) -> Result<RestartRule> {
    let action = match wire.action.as_str() {
        "Restart" => RestartAction::Restart,
        "RestartAllContainers" => RestartAction::RestartAllContainers,
        other => return unfit(&path.child("action"), other),
    };
    let path = path.child("exitCodes");
    let Some(codes) = &wire.exit_codes else { return unfit(&path, "") };
    let is_in = match codes.operator.as_str() {
        "In" => true,
        "NotIn" => false,
        other => return unfit(&path.child("operator"), other),
    };
    Ok(RestartRule { action, is_in, exit_codes: codes.values.clone().unwrap_or_default() })
}

fn probe(wire: &api::Probe, path: &Path) -> Result<Probe> {
    let handler = if let Some(action) = &wire.exec {
        ProbeHandler::Exec(action.command.clone().unwrap_or_default())
    } else if let Some(action) = &wire.http_get {
        ProbeHandler::HttpGet(http_get(action, &path.child("httpGet"))?)
    } else if let Some(action) = &wire.tcp_socket {
        ProbeHandler::TcpSocket(tcp_socket(action, &path.child("tcpSocket"))?)
    } else if let Some(action) = &wire.grpc {
        let path = path.child("grpc");
        if let Some(mode) = present(action.mode.as_ref()) {
            return unfit(&path.child("mode"), mode);
        }
        let port = number(action.port, &path.child("port"))?;
        ProbeHandler::Grpc { port, service: string(action.service.as_ref()) }
    } else {
        return unfit(path, "");
    };
    let count = |value: Option<i32>, default: u32, field: &str| match value {
        None | Some(0) => Ok(default),
        Some(value) => u32::try_from(value).or_else(|_| unfit(&path.child(field), value.to_string())),
    };
    let seconds = |value: Option<i32>, default: u32, field: &str| {
        count(value, default, field).map(|seconds| Duration::from_secs(u64::from(seconds)))
    };
    Ok(Probe {
        handler,
        initial_delay: seconds(wire.initial_delay_seconds, 0, "initialDelaySeconds")?,
        period: seconds(wire.period_seconds, 10, "periodSeconds")?,
        timeout: seconds(wire.timeout_seconds, 1, "timeoutSeconds")?,
        success_threshold: count(wire.success_threshold, 1, "successThreshold")?,
        failure_threshold: count(wire.failure_threshold, 3, "failureThreshold")?,
        termination_grace_period: match wire.termination_grace_period_seconds.map(u64::try_from) {
            None => None,
            Some(Ok(seconds)) => Some(Duration::from_secs(seconds)),
            Some(Err(_)) => return unfit(&path.child("terminationGracePeriodSeconds"), "negative"),
        },
    })
}

fn hook(wire: &api::LifecycleHandler, path: &Path) -> Result<Hook> {
    if let Some(action) = &wire.exec {
        Ok(Hook::Exec(action.command.clone().unwrap_or_default()))
    } else if let Some(action) = &wire.http_get {
        http_get(action, &path.child("httpGet")).map(Hook::HttpGet)
    } else if let Some(action) = &wire.tcp_socket {
        tcp_socket(action, &path.child("tcpSocket")).map(Hook::TcpSocket)
    } else if let Some(action) = &wire.sleep {
        match u64::try_from(action.seconds) {
            Ok(seconds) => Ok(Hook::Sleep(Duration::from_secs(seconds))),
            Err(_) => unfit(&path.child("sleep").child("seconds"), action.seconds.to_string()),
        }
    } else {
        unfit(path, "")
    }
}

fn http_get(wire: &api::HTTPGetAction, path: &Path) -> Result<HttpGet> {
    if let Some(protocol) = present(wire.protocol.as_ref()) {
        return unfit(&path.child("protocol"), protocol);
    }
    let headers = wire.http_headers.iter().flatten();
    Ok(HttpGet {
        path: string(wire.path.as_ref()),
        port: port(&wire.port, &path.child("port"))?,
        host: present(wire.host.as_ref()),
        https: match wire.scheme.as_deref() {
            None | Some("" | "HTTP") => false,
            Some("HTTPS") => true,
            Some(other) => return unfit(&path.child("scheme"), other),
        },
        headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
    })
}

fn tcp_socket(wire: &api::TCPSocketAction, path: &Path) -> Result<TcpSocket> {
    Ok(TcpSocket { port: port(&wire.port, &path.child("port"))?, host: present(wire.host.as_ref()) })
}

fn port(wire: &IntOrString, path: &Path) -> Result<Port> {
    match wire {
        IntOrString::Int(port) => number(*port, path).map(Port::Number),
        IntOrString::String(name) => Ok(Port::Name(name.clone())),
    }
}

fn number(wire: i32, path: &Path) -> Result<u16> {
    match u16::try_from(wire) {
        Ok(port) if port > 0 => Ok(port),
        _ => unfit(path, wire.to_string()),
    }
}
