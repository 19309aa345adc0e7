//! Talking to a Pod's supervisor, without a runtime of one's own.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use podrun_spec::model::Meta;

use crate::error::{Error, Result};
use crate::protocol::{Message, Request, SocketPath};

/// A connection to the supervisor of one Pod.
#[derive(Debug)]
pub struct Client {
    pod: String,
    namespace: String,
    uid: String,
    reader: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn connect(meta: &Meta, run_dir: &Path) -> Result<Self> {
        let stream = SocketPath::new(run_dir)
            .and_then(|socket| UnixStream::connect(socket.path()))
            .map_err(|source| Error::Unreachable { name: meta.name.clone(), source })?;
        Ok(Self {
            pod: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            reader: BufReader::new(stream),
        })
    }

    /// Returns the namespace and the UID of the Pod.
    pub fn pod(&self) -> (&str, &str) {
        (&self.namespace, &self.uid)
    }

    /// Asks for all events so far, the present status, and every event and status from now on; [`Client::next`] returns
    /// them.
    ///
    /// # Errors
    /// EPIPE and the like where the supervisor is gone.
    pub fn watch(&mut self) -> Result<()> {
        self.send(&Request::Watch)
    }

    /// Asks the supervisor to end the Pod and waits until the wish is recorded.
    ///
    /// # Errors
    /// EPIPE and the like where the supervisor is gone, [`Error::Refused`] where it says no.
    pub fn delete(&mut self, grace_seconds: Option<u64>) -> Result<()> {
        self.send(&Request::Delete { grace_seconds })?;
        self.await_ok()
    }

    /// Sets a condition that is not podrun's own, for instance that of a readiness gate, and waits until it is recorded.
    ///
    /// # Errors
    /// EPIPE and the like where the supervisor is gone, [`Error::Refused`] for a condition that follows from what the Pod
    /// does.
    pub fn set_condition(
        &mut self,
        kind: &str,
        status: bool,
        reason: Option<&str>,
        message: Option<&str>,
    ) -> Result<()> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (kind, reason, message) = (kind.to_owned(), owned(reason), owned(message));
        self.send(&Request::SetCondition { kind, status, reason, message })?;
        self.await_ok()
    }

    /// Sets annotations, or removes them, and waits until that is recorded and done.
    ///
    /// # Errors
    /// EPIPE and the like where the supervisor is gone, [`Error::Refused`] for what cannot be meant or done.
    pub(crate) fn annotate(&mut self, changes: &BTreeMap<String, Option<String>>) -> Result<()> {
        self.send(&Request::Annotate { changes: changes.clone() })?;
        self.await_ok()
    }

    /// Waits for the answer to a wish.
    fn await_ok(&mut self) -> Result<()> {
        loop {
            match self.next()? {
                // A watch may run on the same connection.
                Some(Message::Status { .. } | Message::Event { .. }) => {}
                Some(Message::Ended) => self.drained()?,
                Some(Message::Ok | Message::Finished { .. }) | None => return Ok(()),
                Some(Message::Error { message }) => {
                    return Err(Error::Refused { name: self.pod.clone(), answer: message });
                }
            }
        }
    }

    /// Asks the supervisor to end the Pod, without waiting for an answer: it comes as a message of a watch.
    ///
    /// # Errors
    /// EPIPE and the like where the supervisor is gone.
    pub fn request_delete(&mut self, grace_seconds: Option<u64>) -> Result<()> {
        self.send(&Request::Delete { grace_seconds })
    }

    /// Answers [`Message::Ended`]: the logs may go.
    ///
    /// # Errors
    /// EPIPE and the like where the supervisor is gone.
    pub fn drained(&mut self) -> Result<()> {
        self.send(&Request::Drained)
    }

    /// Returns the next message, none at the end of the connection. Blocks.
    ///
    /// # Errors
    /// Any errno of read(2); a line that is no message.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not tell the end from an error")]
    pub fn next(&mut self) -> Result<Option<Message>> {
        let mut line = String::new();
        let unreachable = |source| Error::Unreachable { name: self.pod.clone(), source };
        if self.reader.read_line(&mut line).map_err(unreachable)? == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line)
            .map(Some)
            .map_err(|_| Error::Refused { name: self.pod.clone(), answer: line.trim_end().to_owned() })
    }

    /// Returns whether a whole message may be waiting in memory, where poll(2) on the fd cannot see it.
    pub fn has_buffered(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }

    fn send(&mut self, request: &Request) -> Result<()> {
        let mut line = serde_json::to_string(request).unwrap_or_default();
        line.push('\n');
        self.reader
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(|source| Error::Unreachable { name: self.pod.clone(), source })
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.get_ref().as_fd()
    }
}
