//! Small servers, and a cgroup of one's own.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file is a crate of its own and uses a part of this"
)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use podrun_cgroups::{Cgroup, Hierarchy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Long enough for anything that is to succeed, even in an emulated machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// Long enough for what is to time out.
pub(crate) const SHORT: Duration = Duration::from_millis(200);
/// How much later than its timeout a verdict may come. On an idle machine it is less than a tenth of this.
pub(crate) const SLACK: Duration = Duration::from_millis(500);

/// A server on an address of this machine, which ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// What was received, a text for each request.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Calls `serve` with every connection, each in a task of its own.
    pub(crate) async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        Self { address, requests: Arc::default(), task }
    }

    /// Answers every request with what `answer` makes of its head, and closes the connection.
    pub(crate) async fn http(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&requests));
        let mut server = Self::start(move |mut stream| {
            let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
            async move {
                let head = read_head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                let bytes = answer(&head);
                log.lock().expect("no test panics here").push(head);
                // A client that has seen enough closes first.
                drop(stream.write_all(&bytes).await);
                drop(stream.shutdown().await);
            }
        })
        .await;
        server.requests = requests;
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.requests.lock().expect("no test panics here").clone()
    }
}

/// Reads up to the empty line.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// The path of a request.
pub(crate) fn path_of(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

/// An answer with a body.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Text\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

/// A cgroup below the root of the hierarchy, removed with all it holds at the end of the test.
pub(crate) struct TestCgroup {
    pub(crate) cgroup: Cgroup,
}

impl TestCgroup {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = Hierarchy::find().unwrap().open_root().unwrap();
        let cgroup = root.create_child(&format!("podrun-probes-{}-{number}", std::process::id())).unwrap();
        Self { cgroup }
    }

    pub(crate) fn handle(&self) -> Cgroup {
        self.cgroup.try_clone().unwrap()
    }

    /// Checks that no command has left a cgroup, and with it a process.
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.cgroup.children().unwrap(), Vec::<String>::new());
        assert!(!self.cgroup.events().unwrap().populated);
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let removed = self.cgroup.remove_tree(Instant::now() + LONG);
        // A second panic would abort the run and hide the first.
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}
