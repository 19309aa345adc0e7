//! Handlers as they are written, turned into those that can be carried out.

use podrun_probes::{Grpc, Handler, HttpGet, Result, Scheme, TcpSocket, resolve_port};
use podrun_spec::env::expand_probe_command;
use podrun_spec::model::{self, Container, Hook, Port, ProbeHandler};

/// Returns what a probe does.
///
/// # Errors
/// [`podrun_probes::Error::PortName`] for a port that the container does not have.
pub(super) fn probe(handler: &ProbeHandler, container: &Container) -> Result<Handler> {
    Ok(match handler {
        ProbeHandler::Exec(command) => Handler::Exec(expand_probe_command(command, &container.env)),
        ProbeHandler::HttpGet(get) => Handler::HttpGet(http_get(get, container)?),
        ProbeHandler::TcpSocket(socket) => Handler::TcpSocket(tcp_socket(socket, container)?),
        ProbeHandler::Grpc { port, service } => Handler::Grpc(Grpc { port: *port, service: service.clone() }),
    })
}

/// Returns what a hook does.
///
/// # Errors
/// As [`probe`].
pub(super) fn hook(hook: &Hook, container: &Container) -> Result<podrun_probes::Hook> {
    use podrun_probes::Hook as Done;
    Ok(match hook {
        Hook::Exec(command) => Done::Exec(command.clone()),
        Hook::HttpGet(get) => Done::HttpGet(http_get(get, container)?),
        Hook::TcpSocket(socket) => Done::TcpSocket(tcp_socket(socket, container)?),
        Hook::Sleep(duration) => Done::Sleep(*duration),
    })
}

fn http_get(get: &model::HttpGet, container: &Container) -> Result<HttpGet> {
    Ok(HttpGet {
        scheme: if get.https { Scheme::Https } else { Scheme::Http },
        host: get.host.clone(),
        port: port(&get.port, container)?,
        path: get.path.clone(),
        headers: get.headers.clone(),
    })
}

fn tcp_socket(socket: &model::TcpSocket, container: &Container) -> Result<TcpSocket> {
    Ok(TcpSocket { host: socket.host.clone(), port: port(&socket.port, container)? })
}

fn port(port: &Port, container: &Container) -> Result<u16> {
    let named = container.ports.iter().filter_map(|p| Some((p.name.as_deref()?, p.container_port)));
    match port {
        Port::Number(number) => Ok(*number),
        Port::Name(name) => resolve_port(name, named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> Container {
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{
            name: c, image: i, ports: [{name: web, containerPort: 8080}], env: [{name: X, value: yes-it-is}],
            livenessProbe: {exec: {command: [check, $(X)]}},
            readinessProbe: {httpGet: {port: web, path: /z, scheme: HTTPS, httpHeaders: [{name: A, value: b}]}},
            startupProbe: {tcpSocket: {port: nowhere}},
            lifecycle: {preStop: {exec: {command: [bye, $(X)]}}, postStart: {sleep: {seconds: 3}}}}]}}";
        podrun_spec::parse("p.yaml", text).unwrap().pods.remove(0).pod.spec.containers.remove(0)
    }

    #[test]
    fn commands_of_probes_are_expanded_and_those_of_hooks_are_not() {
        let container = container();
        let words = |words: [&str; 2]| words.map(str::to_owned).to_vec();
        let liveness = container.life.liveness.as_ref().unwrap();
        assert_eq!(
            probe(&liveness.handler, &container).unwrap(),
            Handler::Exec(words(["check", "yes-it-is"]))
        );
        let pre_stop = container.life.pre_stop.as_ref().unwrap();
        let done = podrun_probes::Hook::Exec(words(["bye", "$(X)"]));
        assert_eq!(hook(pre_stop, &container).unwrap(), done);
    }

    #[test]
    fn ports_are_found_by_name_when_they_are_needed() {
        let container = container();
        let readiness = container.life.readiness.as_ref().unwrap();
        let Ok(Handler::HttpGet(get)) = probe(&readiness.handler, &container) else { panic!() };
        assert_eq!((get.port, get.path.as_str(), get.scheme), (8080, "/z", Scheme::Https));
        assert_eq!(get.headers, [("A".to_owned(), "b".to_owned())]);
        let startup = container.life.startup.as_ref().unwrap();
        let error = probe(&startup.handler, &container).unwrap_err();
        assert_eq!(error.to_string(), "strconv.Atoi: parsing \"nowhere\": invalid syntax");
    }
}
