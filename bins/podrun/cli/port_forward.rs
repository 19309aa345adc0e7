//! `podrun port-forward`.

use std::net::IpAddr;

use clap::Args;

#[derive(Debug, Args)]
#[command(
    after_help = "It goes on until it is interrupted, or the Pod ends. Connections arrive inside the Pod, from 127.0.0.1.

Examples:
  podrun port-forward pod/web 8080:80     8080 of this machine is 80 of the Pod
  podrun port-forward web 5000 6000       two ports, the same here and there
  podrun port-forward web :http           some port of this machine, and the container port of that name"
)]
pub(crate) struct PortForwardArgs {
    /// `pod/NAME` or just the name.
    #[arg(value_name = "POD")]
    pub(crate) pod: String,
    /// Ports: of this machine, if it is another one, and of the Pod. Without the first, any that is free.
    #[arg(required = true, value_name = "[LOCAL:]REMOTE", value_parser = PortPair::parse)]
    pub(crate) ports: Vec<PortPair>,
    /// Addresses of this machine to listen at; localhost is 127.0.0.1, and ::1 if there is IPv6.
    #[arg(long, value_delimiter = ',', default_value = "localhost", value_name = "ADDRESSES", value_parser = Address::parse)]
    pub(crate) address: Vec<Address>,
}

/// A port of the machine and one of the Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortPair {
    /// Nothing where it is the same as the other, 0 for any that is free.
    pub(crate) local: Option<u16>,
    pub(crate) remote: Port,
}

/// A port of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Number(u16),
    /// As a container names it.
    Name(String),
}

impl PortPair {
    fn parse(text: &str) -> Result<Self, String> {
        let (local, remote) = match text.split_once(':') {
            Some(("", remote)) => (Some(0), remote),
            Some((local, remote)) => {
                let port = local.parse().map_err(|_| format!("{local:?} is no port of this machine"))?;
                (Some(port), remote)
            }
            None => (None, text),
        };
        let remote = match remote.parse() {
            Ok(0) => return Err("a Pod has no port 0".to_owned()),
            Ok(number) => Port::Number(number),
            Err(_) if remote.bytes().any(|byte| byte.is_ascii_alphabetic()) => Port::Name(remote.to_owned()),
            Err(_) => return Err(format!("{remote:?} is neither a port nor the name of one")),
        };
        Ok(Self { local, remote })
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Localhost,
    Ip(IpAddr),
}

impl Address {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "localhost" => Ok(Self::Localhost),
            ip => ip.parse().map(Self::Ip).map_err(|_| "expected localhost or an IP address".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_or_names() {
        let pair = |local, remote| Ok(PortPair { local, remote });
        let name = |name: &str| Port::Name(name.to_owned());
        for (text, read) in [
            ("80", pair(None, Port::Number(80))),
            ("8080:80", pair(Some(8080), Port::Number(80))),
            (":80", pair(Some(0), Port::Number(80))),
            ("0:80", pair(Some(0), Port::Number(80))),
            ("8443:https", pair(Some(8443), name("https"))),
            ("metrics-2", pair(None, name("metrics-2"))),
        ] {
            assert_eq!(PortPair::parse(text), read, "{text}");
        }
        for text in ["", ":", "0", "80:0", "65536", "http:80", "-1:80", "1:2:3"] {
            assert!(PortPair::parse(text).is_err(), "{text}");
        }
    }
}
