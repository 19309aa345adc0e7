//! Probes and their settings, as kubectl describes them.

use std::time::Duration;

use podrun_spec::model::{Container, HttpGet, Port, Probe, ProbeHandler, TcpSocket};

/// Returns the probes of a container: what each is for, and the rest in words.
pub(super) fn probes(container: &Container) -> impl Iterator<Item = (&'static str, String)> {
    let life = &container.life;
    let all = [("Liveness", &life.liveness), ("Readiness", &life.readiness), ("Startup", &life.startup)];
    all.into_iter().filter_map(|(name, probe)| Some((name, describe(probe.as_ref()?))))
}

fn describe(probe: &Probe) -> String {
    let handler = match &probe.handler {
        ProbeHandler::Exec(command) => format!("exec [{}]", command.join(" ")),
        ProbeHandler::HttpGet(HttpGet { path, port, host, https, .. }) => {
            let scheme = if *https { "https" } else { "http" };
            let host = host.as_deref().unwrap_or_default();
            format!("http-get {scheme}://{host}:{}{path}", text(port))
        }
        ProbeHandler::TcpSocket(TcpSocket { port, host }) => {
            format!("tcp-socket {}:{}", host.as_deref().unwrap_or_default(), text(port))
        }
        ProbeHandler::Grpc { port, service } => format!("grpc <pod>:{port} {service}"),
    };
    // Whole seconds, but for the period, which may be less than one: `0s` and not `0ns`.
    let seconds = |time: Duration| format!("{}s", time.as_secs_f64());
    format!(
        "{handler} delay={} timeout={} period={} #success={} #failure={}",
        seconds(probe.initial_delay),
        seconds(probe.timeout),
        seconds(probe.period),
        probe.success_threshold,
        probe.failure_threshold
    )
}

fn text(port: &Port) -> String {
    match port {
        Port::Number(number) => number.to_string(),
        Port::Name(name) => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_described_as_kubectl_does() {
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: i,
            livenessProbe: {httpGet: {port: web, path: /z}}, readinessProbe: {exec: {command: [cat, /x]}, periodSeconds: 5},
            startupProbe: {grpc: {port: 9000, service: s}}}]}}";
        let pod = podrun_spec::parse("p.yaml", text).unwrap().pods.remove(0).pod;
        let described: Vec<_> = probes(&pod.spec.containers[0]).collect();
        let expected = [
            ("Liveness", "http-get http://:web/z delay=0s timeout=1s period=10s #success=1 #failure=3"),
            ("Readiness", "exec [cat /x] delay=0s timeout=1s period=5s #success=1 #failure=3"),
            ("Startup", "grpc <pod>:9000 s delay=0s timeout=1s period=10s #success=1 #failure=3"),
        ];
        assert_eq!(described, expected.map(|(name, text)| (name, text.to_owned())));
    }
}
