//! A server of HTTP, with or without TLS, that does what a test says, and tells what it was asked.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::digest::Digest;
use crate::testing::TestImage;

/// A request as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The same request for something else.
    pub(super) fn retargeted(&self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self.clone() }
    }

    /// Method and target.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// The first byte that is asked for.
    pub(super) fn offset(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// How the body is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Manner {
    Whole,
    /// So many bytes, then the connection is closed.
    Cut(usize),
    /// So many bytes, then nothing more.
    Stall(usize),
    /// A byte now and then.
    Slow(Duration),
    /// The body again and again, as long as somebody reads.
    Endless,
    /// No answer at all.
    Silent,
    /// Headers without end.
    EndlessHeaders,
}

/// What to answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    length: Option<u64>,
    manner: Manner,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), length: None, manner: Manner::Whole }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn manner(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    pub(super) fn cut(self, after: usize) -> Self {
        self.manner(Manner::Cut(after))
    }

    pub(super) fn stall(self, after: usize) -> Self {
        self.manner(Manner::Stall(after))
    }

    pub(super) fn slow(self, pause: Duration) -> Self {
        self.manner(Manner::Slow(pause))
    }

    pub(super) fn endless(self) -> Self {
        self.manner(Manner::Endless)
    }

    pub(super) fn silent() -> Self {
        Self::new(200, "").manner(Manner::Silent)
    }

    pub(super) fn endless_headers() -> Self {
        Self::new(200, "").manner(Manner::EndlessHeaders)
    }

    pub(super) fn is(&self, status: u16) -> bool {
        self.status == status
    }

    /// Announces another length than there is.
    pub(super) fn announce(self, length: u64) -> Self {
        Self { length: Some(length), ..self }
    }

    fn send(&self, method: &str, stream: &mut impl Write, ended: &AtomicBool) -> io::Result<bool> {
        let mut head = format!("HTTP/1.1 {} Reason\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.manner {
            Manner::Silent => {
                wait(ended);
                return Ok(false);
            }
            Manner::EndlessHeaders => {
                stream.write_all(head.as_bytes())?;
                while !ended.load(Ordering::Relaxed) {
                    stream.write_all(b"x-more: and more and more and more and more and more and more\r\n")?;
                }
                return Ok(false);
            }
            Manner::Endless => head.push_str("connection: close\r\n\r\n"),
            _ => {
                let length = self.length.unwrap_or(self.body.len() as u64);
                head.push_str(&format!("content-length: {length}\r\n\r\n"));
            }
        }
        stream.write_all(head.as_bytes())?;
        if method == "HEAD" {
            stream.flush()?;
            return Ok(true);
        }
        match self.manner {
            Manner::Cut(after) => {
                stream.write_all(&self.body[..after.min(self.body.len())])?;
                stream.flush()?;
                return Ok(false);
            }
            Manner::Stall(after) => {
                stream.write_all(&self.body[..after.min(self.body.len())])?;
                stream.flush()?;
                wait(ended);
                return Ok(false);
            }
            Manner::Slow(pause) => {
                for byte in &self.body {
                    stream.write_all(std::slice::from_ref(byte))?;
                    stream.flush()?;
                    self::pause(pause);
                    if ended.load(Ordering::Relaxed) {
                        return Ok(false);
                    }
                }
            }
            Manner::Endless => {
                while !ended.load(Ordering::Relaxed) {
                    stream.write_all(&self.body)?;
                }
                return Ok(false);
            }
            _ => stream.write_all(&self.body)?,
        }
        stream.flush()?;
        Ok(true)
    }
}

#[expect(clippy::disallowed_methods, reason = "a server that is slow on purpose")]
pub(super) fn pause(time: Duration) {
    thread::sleep(time);
}

fn wait(ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        pause(Duration::from_millis(5));
    }
}

/// A running server; it ends when this is dropped.
pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::at([127, 0, 0, 1].into(), None, answer)
    }

    /// Starts one at another address of this machine.
    pub(super) fn at(
        address: IpAddr,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (seen, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (all, end, answer) = (Arc::clone(&seen), Arc::clone(&ended), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (all, end, answer, tls) =
                    (Arc::clone(&all), Arc::clone(&end), Arc::clone(&answer), tls.clone());
                thread::spawn(move || {
                    // A client that goes away is what many tests are about.
                    let _ = match tls {
                        None => serve(stream, &all, &end, &*answer),
                        Some(config) => ServerConnection::new(config)
                            .map_err(io::Error::other)
                            .and_then(|tls| serve(StreamOwned::new(tls, stream), &all, &end, &*answer)),
                    };
                });
            }
        });
        Self { address, seen, ended }
    }

    pub(super) fn name(&self) -> String {
        self.address.to_string()
    }

    /// Returns what was asked since the last call.
    pub(super) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().expect("no panic"))
    }

    /// Returns method and target of each.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // The listener looks up; that it may be gone already is fine.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: impl Read + Write,
    all: &Mutex<Vec<Seen>>,
    ended: &AtomicBool,
    answer: &dyn Fn(&Seen) -> Answer,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read(&mut reader)? {
        let answer = answer(&seen);
        let method = seen.method.clone();
        all.lock().expect("no panic").push(seen);
        if !answer.send(&method, reader.get_mut(), ended)? {
            return Ok(());
        }
    }
    Ok(())
}

fn read(reader: &mut BufReader<impl Read>) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let mut seen = Seen { method: method.to_owned(), target: target.to_owned(), ..Seen::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => seen.headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let length = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    seen.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(seen))
}

/// A registry that has one image, `team/app:1`, and does everything right.
pub(super) fn registry(image: &TestImage) -> impl Fn(&Seen) -> Answer + Send + Sync + Clone + use<> {
    let manifest = image.manifest();
    let mut blobs: Vec<Vec<u8>> = image.layers.iter().map(|(bytes, _)| bytes.clone()).collect();
    blobs.push(image.config.clone());
    move |seen: &Seen| {
        let Some((kind, reference)) =
            seen.target.strip_prefix("/v2/team/app/").and_then(|rest| rest.split_once('/'))
        else {
            return Answer::new(404, "");
        };
        if kind == "manifests" {
            let digest = Digest::of(&manifest).to_string();
            if reference != "1" && reference != digest {
                return Answer::new(
                    404,
                    r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                );
            }
            return Answer::new(200, manifest.clone())
                .header("content-type", crate::manifest::OCI_MANIFEST)
                .header("docker-content-digest", digest);
        }
        let Some(blob) = blobs.iter().find(|blob| Digest::of(blob).to_string() == reference) else {
            return Answer::new(404, "");
        };
        match seen.offset() {
            None => Answer::new(200, blob.clone()),
            Some(offset) if offset < blob.len() => Answer::new(206, &blob[offset..])
                .header("content-range", format!("bytes {offset}-{}/{}", blob.len() - 1, blob.len())),
            Some(_) => Answer::new(416, ""),
        }
    }
}
