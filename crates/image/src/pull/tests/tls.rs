//! Certificates: which are trusted, and that nothing is said in the clear to who should have one.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

/// An authority of the test's own.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A server's settings with a certificate for `name`.
    fn certify(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("a certificate and its key");
        Arc::new(config)
    }
}

fn server(config: Arc<ServerConfig>, image: &TestImage) -> Server {
    Server::at([127, 0, 0, 1].into(), Some(config), registry(image))
}

/// A client that trusts this authority for this server, and no other one.
fn client(bench: &Bench, authority: &Authority, server: &Server) -> Client {
    let ca = bench.dir.path().join("ca.pem");
    fs::write(&ca, &authority.pem).expect("write");
    let text = format!("[registry.{:?}]\nca = {:?}", server.name(), ca.display().to_string());
    Client::with_patience(Registries::from_toml(&text).expect("valid"), PATIENCE)
}

#[test]
fn a_certificate_of_the_named_authority_is_needed() {
    let (image, authority) = (image(), Authority::new());
    let good = authority.certify("127.0.0.1", |_| ());
    let server = server(good, &image);
    let name = format!("{}/team/app:1", server.name());
    let bench = Bench::new();
    bench.pull_with(&client(&bench, &authority, &server), &name).expect("pulled");
    assert_eq!(server.lines().len(), 4);

    // Nobody else's, and the machine's own authorities have not signed it.
    let bench = Bench::new();
    for client in
        [client(&bench, &Authority::new(), &server), Client::with_patience(Registries::default(), PATIENCE)]
    {
        let error = bench.pull_with(&client, &name).expect_err("an unknown authority");
        match cause(&error) {
            RegistryError::Tls { .. } => {}
            // A machine without any authorities.
            RegistryError::Certificates { .. } => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(server.lines(), [""; 0]);
    }
}

#[test]
fn certificates_that_do_not_hold_are_refused() {
    let (image, authority) = (image(), Authority::new());
    for (what, config) in [
        ("another host", authority.certify("registry.example", |_| ())),
        ("another address", authority.certify("127.0.0.2", |_| ())),
        (
            "expired",
            authority.certify("127.0.0.1", |params| {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            }),
        ),
        (
            "not yet valid",
            authority.certify("127.0.0.1", |params| params.not_before = date_time_ymd(2999, 1, 1)),
        ),
    ] {
        let server = server(config, &image);
        let bench = Bench::new().with_password(&server.name());
        let client = client(&bench, &authority, &server);
        let error = bench.pull_with(&client, &format!("{}/team/app:1", server.name())).expect_err(what);
        assert!(matches!(cause(&error), RegistryError::Tls { .. }), "{what}: {error:?}");
        assert_eq!(server.lines(), [""; 0], "{what}");
    }
}

#[test]
fn without_tls_only_who_is_named_so_is_spoken_to() {
    let image = image();
    let server = Server::start(registry(&image));
    let bench = Bench::new().with_password(&server.name());
    let client = Client::with_patience(Registries::default(), PATIENCE);
    let error = bench.pull_with(&client, &format!("{}/team/app:1", server.name())).expect_err("no TLS");
    assert!(matches!(cause(&error), RegistryError::Tls { .. }), "{error:?}");
    let seen = server.seen();
    assert!(
        seen.iter().all(|seen| seen.header("authorization").is_none() && !seen.target.contains("/v2/")),
        "{seen:?}"
    );
    bench.pull(&server).expect("the control");
}

#[test]
fn no_redirect_and_no_realm_leaves_tls() {
    let (image, authority) = (image(), Authority::new());
    let evil = Server::start(registry(&image));
    let base = format!("http://{}", evil.name());
    let (right, to) = (registry(&image), base.clone());
    let redirecting =
        Server::at([127, 0, 0, 1].into(), Some(authority.certify("127.0.0.1", |_| ())), move |seen| {
            if seen.target.contains("/blobs/") {
                Answer::new(302, "").header("location", format!("{to}{}", seen.target))
            } else {
                right(seen)
            }
        });
    let realm = format!("Bearer realm=\"{base}/token\"");
    let asking = Server::at([127, 0, 0, 1].into(), Some(authority.certify("127.0.0.1", |_| ())), move |_| {
        Answer::new(401, "").header("www-authenticate", realm.clone())
    });
    for server in [redirecting, asking] {
        let bench = Bench::new();
        let client = client(&bench, &authority, &server);
        let error =
            bench.pull_with(&client, &format!("{}/team/app:1", server.name())).expect_err("downgrade");
        assert!(matches!(cause(&error), RegistryError::Downgrade { .. }), "{error:?}");
    }
    assert_eq!(evil.seen(), []);
}
