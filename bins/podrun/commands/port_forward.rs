//! `podrun port-forward`: connections to ports of this machine arrive inside a Pod.
//!
//! A connection is made by a thread inside the Pod's network namespace, so that it reaches what listens at the Pod's
//! 127.0.0.1 as well, whatever network the Pod has.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_engine::PodView;
use podrun_namespaces::{Namespace, on_thread_in};
use podrun_spec::model::Protocol;

use crate::cli::{Address, Global, Port, PortForwardArgs};
use crate::context;
use crate::exit_code::Code;
use crate::print::{eprintln, println};
use crate::report::{CommandError, CommandResult};
use crate::selection::pod_and_container;

/// How long the Pod's own network may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(global: &Global, args: &PortForwardArgs) -> CommandResult {
    let engine = context::engine(global)?;
    let (name, _) = pod_and_container(&args.pod);
    let view = engine.pod(global.namespace(), name)?;
    let Some((namespace, init)) = engine.network_namespace(&view)? else {
        let phase = view.published.status.phase.as_str();
        let message = format!("unable to forward port because pod is not running. Current status={phase}");
        return Err(CommandError::new(Code::Failure, message));
    };
    let namespace = Arc::new(namespace);
    let mut listeners = Vec::new();
    for pair in &args.ports {
        let remote = number(&view, &pair.remote)?;
        for listener in listen(&args.address, pair.local.unwrap_or(remote))? {
            let address =
                listener.local_addr().map_err(|error| failed("ask for the address of a socket", &error))?;
            println!("Forwarding from {address} -> {remote}");
            listeners.push((listener, address.port(), remote));
        }
    }
    loop {
        let mut fds = vec![PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        fds.extend(listeners.iter().map(|(listener, ..)| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(failed("wait for connections", &errno.into())),
        }
        let has_news: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if has_news[0] {
            return Err(CommandError::new(Code::Failure, "lost connection to pod"));
        }
        for ((listener, local, remote), _) in listeners.iter().zip(&has_news[1..]).filter(|(_, news)| **news)
        {
            // Whoever called may have hung up already.
            let Ok((stream, _)) = listener.accept() else { continue };
            println!("Handling connection for {local}");
            let (namespace, local, remote) = (Arc::clone(&namespace), *local, *remote);
            thread::spawn(move || {
                if let Err(error) = forward(stream, &namespace, remote) {
                    eprintln!("error: forward {local} -> {remote}: {error}");
                }
            });
        }
    }
}

/// Returns the number of a port; containers name theirs.
fn number(view: &PodView, port: &Port) -> Result<u16, CommandError> {
    let name = match port {
        Port::Number(number) => return Ok(*number),
        Port::Name(name) => name,
    };
    let mut ports = view.pod.spec.all_containers().flat_map(|(_, container)| &container.ports);
    match ports.find(|port| port.name.as_ref() == Some(name)) {
        Some(port) if port.protocol == Protocol::Tcp => Ok(port.container_port),
        Some(_) => Err(CommandError::new(
            Code::Failure,
            format!("port \"{name}\" is not TCP, and nothing else is forwarded"),
        )),
        None => {
            let message = format!("pod \"{}\" has no port named \"{name}\"", view.pod.meta.name);
            Err(CommandError::new(Code::NotFound, message))
        }
    }
}

/// Listens at all addresses; at one of those of localhost at least.
fn listen(addresses: &[Address], port: u16) -> Result<Vec<TcpListener>, CommandError> {
    let bind = |ip: IpAddr, port: u16| {
        let address = SocketAddr::new(ip, port);
        TcpListener::bind(address).map_err(|error| failed(&format!("listen at {address}"), &error))
    };
    let mut listeners = Vec::new();
    for address in addresses {
        match address {
            Address::Ip(ip) => listeners.push(bind(*ip, port)?),
            Address::Localhost => {
                let four = bind(Ipv4Addr::LOCALHOST.into(), port)?;
                // One that is free for both families.
                let port = four.local_addr().map_or(port, |address| address.port());
                listeners.push(four);
                listeners.extend(bind(Ipv6Addr::LOCALHOST.into(), port));
            }
        }
    }
    Ok(listeners)
}

/// Connects inside the Pod, and copies until both sides have said all.
fn forward(outside: TcpStream, namespace: &Namespace, port: u16) -> io::Result<()> {
    let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let connect = || {
        let [four, six] = addresses.map(|ip| SocketAddr::new(ip, port));
        // What matters is why 127.0.0.1 does not answer; a Pod may have no other.
        TcpStream::connect_timeout(&four, PATIENCE)
            .or_else(|error| TcpStream::connect_timeout(&six, PATIENCE).map_err(|_| error))
    };
    let inside = on_thread_in(namespace, connect).map_err(io::Error::other)??;
    thread::scope(|scope| {
        scope.spawn(|| copy(&outside, &inside));
        copy(&inside, &outside);
    });
    Ok(())
}

/// Copies until `from` says no more, and says so to `to`. A connection that breaks is over for both sides.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let how = match io::copy(&mut from, &mut to) {
        Ok(_) => Shutdown::Write,
        Err(_) => Shutdown::Both,
    };
    // The other side may have gone meanwhile.
    let _ = to.shutdown(how);
}

fn failed(verb: &str, error: &io::Error) -> CommandError {
    CommandError::new(Code::Failure, format!("{verb}: {error}"))
}
