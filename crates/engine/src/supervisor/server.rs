//! The supervisor's socket: who may ask, and what is answered.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::protocol::{Message, Request, SOCKET, SocketPath};
use crate::record::Published;

/// Messages that a slow watcher may lag behind before it is cut off.
pub(super) const BACKLOG: usize = 1024;

/// A request line is never longer.
const REQUEST_BYTES: usize = 64 * 1024;

/// Something that is asked of the loop.
pub(super) struct Wish {
    pub(super) request: Request,
    /// Told once it is written down, or why it is refused.
    pub(super) recorded: Option<oneshot::Sender<Result<(), String>>>,
}

/// Where a connection gets its answers from and takes its wishes to.
#[derive(Clone)]
pub(super) struct Hub {
    /// Every message from now on. There is a place for each that a watcher may lag behind, so they are small.
    pub(super) messages: broadcast::Sender<Arc<Message>>,
    /// The present status and the events so far.
    pub(super) present: watch::Receiver<Published>,
    /// Wishes, for the loop.
    pub(super) wishes: mpsc::Sender<Wish>,
}

/// Binds the socket and accepts connections until the runtime ends.
pub(super) fn serve(run_dir: &Path, hub: Hub) -> io::Result<()> {
    match std::fs::remove_file(run_dir.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = SocketPath::new(run_dir)?;
    let listener = UnixListener::bind(socket.path())?;
    std::fs::set_permissions(socket.path(), std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        // An error of accept is one connection's, or a shortage of fds that passes when others close.
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, hub.clone()));
            }
        }
    });
    Ok(())
}

/// Returns whether the socket is where others look for it.
pub(super) fn is_bound(run_dir: &Path) -> bool {
    run_dir.join(SOCKET).exists()
}

async fn converse(stream: UnixStream, hub: Hub) {
    // The directory is the owner's alone; this also refuses a process that was handed the socket.
    let own = nix::unistd::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own || peer.uid() == 0 => {}
        _ => return,
    }
    let (reader, writer) = stream.into_split();
    // The other side going away is the usual end of a conversation, and nobody is left to tell.
    let _ = answer(reader, writer, hub).await;
}

async fn answer(reader: OwnedReadHalf, mut writer: OwnedWriteHalf, hub: Hub) -> io::Result<()> {
    let mut reader = BufReader::new(reader);
    let mut watched: Option<broadcast::Receiver<Arc<Message>>> = None;
    let mut line = Vec::new();
    loop {
        tokio::select! {
            read = read_line(&mut reader, &mut line) => {
                if read? == 0 || !line.ends_with(b"\n") {
                    return Ok(());
                }
                match serde_json::from_slice(&line) {
                    Ok(Request::Watch) => {
                        let messages = hub.messages.subscribe();
                        let present = hub.present.borrow().clone();
                        for event in present.events {
                            send(&mut writer, &Message::Event { event }).await?;
                        }
                        let status = Box::new(present.status);
                        send(&mut writer, &Message::Status { status, deletion: present.deletion }).await?;
                        watched = Some(messages);
                    }
                    // The loop has left; what counts the answers is behind the other end.
                    Ok(request @ Request::Drained) => drop(hub.wishes.send(Wish { request, recorded: None }).await),
                    Ok(request) => {
                        let (recorded, written) = oneshot::channel();
                        let sent = hub.wishes.send(Wish { request, recorded: Some(recorded) }).await.is_ok();
                        let answer = if sent { written.await.ok() } else { None };
                        send(&mut writer, &match answer {
                            Some(Ok(())) => Message::Ok,
                            Some(Err(message)) => Message::Error { message },
                            // The loop that has ended before drops the wish.
                            None => Message::Finished { removed: false },
                        }).await?;
                    }
                    Err(error) => send(&mut writer, &Message::Error { message: error.to_string() }).await?,
                }
                line.clear();
            }
            message = next(&mut watched) => match message {
                Ok(message) => {
                    let last = matches!(*message, Message::Finished { .. });
                    send(&mut writer, &message).await?;
                    if last {
                        return Ok(());
                    }
                }
                // Too slow: cut off rather than left in the belief that it has seen everything.
                Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(()),
            }
        }
    }
}

async fn next(watched: &mut Option<broadcast::Receiver<Arc<Message>>>) -> Result<Arc<Message>, RecvError> {
    match watched {
        Some(messages) => messages.recv().await,
        None => std::future::pending().await,
    }
}

/// Reads on to the end of a line, of the connection, or of what a request may be long. A line may come in parts: what a
/// call that was cancelled has read stays in `line`.
async fn read_line(reader: &mut BufReader<OwnedReadHalf>, line: &mut Vec<u8>) -> io::Result<usize> {
    let left = REQUEST_BYTES.saturating_sub(line.len());
    reader.take(u64::try_from(left).unwrap_or(0)).read_until(b'\n', line).await
}

async fn send(writer: &mut OwnedWriteHalf, message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    writer.write_all(&line).await
}
