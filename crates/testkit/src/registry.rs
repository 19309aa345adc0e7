//! The real registry server (`docker-registry`), on the loopback interface, with a log of what was asked of it.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::own_network;

/// How long the server may take to start, to end, or to write down what it has answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// The user of a registry with [`Registry::with_users`].
pub const REGISTRY_USER: &str = "user";
/// Its password.
pub const REGISTRY_PASSWORD: &str = "secret";
/// `htpasswd -Bbn user secret`
const HTPASSWD: &str = "user:$2y$05$WGlp3pZu/.Fd9lF4iGcd7umWODFrgqkuqxAfDX68faauB6rdRP7Eq\n";

/// Status, headers (their names in lower case) and body of an answer.
pub type Reply = (u16, Vec<(String, String)>, Vec<u8>);

/// One request that the registry has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// The status.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
}

/// A running registry; it ends when this is dropped, and what it holds stays in its directory.
///
/// For root it runs in a network of the calling thread's own ([`own_network`]), where its podrun is too.
///
/// Use `require!(program("docker-registry"))` first.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    dir: PathBuf,
    address: SocketAddr,
    users: bool,
    seen: usize,
}

impl Registry {
    /// Starts one whose content is in `dir`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(dir: &Path) -> Self {
        Self::with(dir, address_of_our_own(), false)
    }

    /// Starts one that serves only [`REGISTRY_USER`] with [`REGISTRY_PASSWORD`].
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn with_users(dir: &Path) -> Self {
        Self::with(dir, address_of_our_own(), true)
    }

    #[expect(clippy::disallowed_methods, reason = "the real server, to be compared with")]
    fn with(dir: &Path, address: SocketAddr, users: bool) -> Self {
        fs::create_dir_all(dir).expect("a writable directory");
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": false}},
            "storage": {"filesystem": {"rootdirectory": dir.join("content")}, "delete": {"enabled": true}},
            "http": {"addr": address.to_string(), "secret": "for tests"},
        });
        if users {
            fs::write(dir.join("htpasswd"), HTPASSWD).expect("a writable directory");
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": dir.join("htpasswd")}});
        }
        // JSON is YAML.
        fs::write(dir.join("config.yml"), config.to_string()).expect("a writable directory");
        let log =
            File::options().create(true).append(true).open(dir.join("log")).expect("a writable directory");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed");
        let mut registry = Self { child, dir: dir.to_owned(), address, users, seen: 0 };
        registry.await_start();
        registry
    }

    fn await_start(&mut self) {
        wait_until("docker-registry listens", || {
            let ended = self.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "docker-registry ended: {}", self.log());
            TcpStream::connect(self.address).is_ok()
        });
        self.seen = self.lines().len();
    }

    /// Ends the server; [`Registry::restart`] brings it back at the same address.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        self.child.wait().expect("it is our child");
    }

    /// Starts the server again.
    ///
    /// # Panics
    /// If somebody took its address meanwhile.
    #[must_use]
    pub fn restart(mut self) -> Self {
        self.stop();
        let (dir, address, users) = (self.dir.clone(), self.address, self.users);
        drop(self);
        Self::with(&dir, address, users)
    }

    /// Returns `127.0.0.1:port`, as images name it.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what it has answered since the last call, or since the start.
    ///
    /// # Panics
    /// If it does not write down what it answers.
    pub fn answered(&mut self) -> Vec<Answered> {
        // What is logged before this request was answered before it.
        let marker = format!("/v2/?marker={}", self.seen);
        self.request("GET", &marker, &[], b"");
        wait_until("docker-registry logs", || self.lines().iter().any(|line| line.path == marker));
        let lines = self.lines();
        let new = lines[self.seen..].to_vec();
        self.seen = lines.len();
        new.into_iter().filter(|line| !line.path.starts_with("/v2/?marker=")).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn lines(&self) -> Vec<Answered> {
        self.log().lines().filter_map(parse_line).collect()
    }

    /// Puts an image there; returns the digest of its manifest. `layers` are blobs with their media types.
    ///
    /// # Panics
    /// If the registry does not take it.
    pub fn push(&self, repository: &str, tag: &str, config: &[u8], layers: &[(&str, &[u8])]) -> String {
        let descriptor = |media_type: &str, blob: &[u8]| {
            self.push_blob(repository, blob);
            json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
        };
        let config = descriptor("application/vnd.oci.image.config.v1+json", config);
        let layers: Vec<Value> =
            layers.iter().map(|(media_type, blob)| descriptor(media_type, blob)).collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
        self.push_manifest(repository, tag, media_type, manifest.to_string().as_bytes())
    }

    /// Puts a manifest or index there, by tag or digest; returns its digest.
    ///
    /// # Panics
    /// If the registry does not take it.
    pub fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        manifest: &[u8],
    ) -> String {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let (status, _, body) = self.request("PUT", &path, &[("Content-Type", media_type)], manifest);
        assert_eq!(status, 201, "{path}: {}", String::from_utf8_lossy(&body));
        digest(manifest)
    }

    /// Puts a blob there; returns its digest.
    ///
    /// # Panics
    /// If the registry does not take it.
    pub fn push_blob(&self, repository: &str, blob: &[u8]) -> String {
        let (status, headers, _) =
            self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
        assert_eq!(status, 202, "an upload begins");
        let location = header(&headers, "location").expect("an upload has a place");
        let path = location
            .split_once("://")
            .and_then(|(_, rest)| Some(&rest[rest.find('/')?..]))
            .unwrap_or(&location);
        let digest = digest(blob);
        let mark = if path.contains('?') { '&' } else { '?' };
        let (status, _, body) = self.request("PUT", &format!("{path}{mark}digest={digest}"), &[], blob);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        digest
    }

    /// Asks for something, as the registry's user if it has one; returns status, headers and body.
    ///
    /// # Panics
    /// If the registry does not answer.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut all = vec![("Host", self.name()), ("Connection", "close".to_owned())];
        all.push(("Content-Length", body.len().to_string()));
        if self.users {
            // user:secret
            all.push(("Authorization", "Basic dXNlcjpzZWNyZXQ=".to_owned()));
        }
        all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
        request(self.address, method, path, &all, body).expect("the registry answers")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    stream.write_all(body)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status in {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    Ok((status, headers, body))
}

fn header(headers: &[(String, String)], name: &str) -> Option<String> {
    headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
}

/// Reads a line of the access log: `host - user [time] "METHOD PATH HTTP/1.1" STATUS BYTES …`.
fn parse_line(line: &str) -> Option<Answered> {
    let mut parts = line.split('"');
    parts.next().filter(|head| head.contains(" - ") && head.trim_end().ends_with(']'))?;
    let mut request = parts.next()?.split(' ');
    let mut numbers = parts.next()?.split_whitespace();
    Some(Answered {
        method: request.next()?.to_owned(),
        path: request.next()?.to_owned(),
        status: numbers.next()?.parse().ok()?,
        bytes: numbers.next()?.parse().ok()?,
    })
}

fn digest(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    format!("sha256:{hex}")
}

/// Returns an address that nobody has just now.
/// Returns an address that nobody has, in a network of our own where we may have one.
fn address_of_our_own() -> SocketAddr {
    if nix::unistd::geteuid().is_root() {
        own_network();
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface is up");
    listener.local_addr().expect("it is bound")
}

#[expect(clippy::disallowed_methods, reason = "the server has no event to wait for")]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_access_log_are_read() {
        let line = "127.0.0.1 - - [26/Nov/2026:15:05:10 +0000] \"GET /v2/team/app/manifests/1 HTTP/1.1\" 200 350 \"\" \"podrun/0.1.0\"";
        let expected = Answered {
            method: "GET".to_owned(),
            path: "/v2/team/app/manifests/1".to_owned(),
            status: 200,
            bytes: 350,
        };
        assert_eq!(parse_line(line), Some(expected));
        assert_eq!(parse_line("time=\"2026\" level=warning msg=\"No HTTP secret\""), None);
    }

    #[test]
    fn it_takes_an_image_and_tells_what_was_asked() {
        crate::require!(program("docker-registry"));
        let dir = crate::TempRoot::new();
        let mut registry = Registry::with_users(dir.path());
        let digest =
            registry.push("team/app", "1", b"{}", &[("application/vnd.oci.image.layer.v1.tar", b"layer")]);
        registry.answered();
        let accept = [("Accept", "application/vnd.oci.image.manifest.v1+json")];
        let (status, headers, _) = registry.request("HEAD", "/v2/team/app/manifests/1", &accept, b"");
        assert_eq!((status, header(&headers, "docker-content-digest")), (200, Some(digest)));
        let answered = registry.answered();
        let [one] = answered.as_slice() else { panic!("{answered:?}") };
        assert_eq!(
            (one.method.as_str(), one.path.as_str(), one.status),
            ("HEAD", "/v2/team/app/manifests/1", 200)
        );
        let mut registry = registry.restart();
        assert_eq!(registry.answered(), []);
        assert_eq!(registry.request("GET", "/v2/team/app/manifests/1", &accept, b"").0, 200);
        registry.stop();
        assert!(TcpStream::connect(registry.address()).is_err());
        drop(registry);
        dir.close();
    }
}
