//! Requests about links.

use super::{Link, LinkChange, LinkId, NewLink, ifinfomsg};
use crate::error::{Action, Error, Result};
use crate::rtnetlink::Rtnetlink;
use crate::wire::Message;

/// Which links a list has; all that are set must hold. The kernel itself leaves the others out (Linux 4.20).
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct LinkFilter<'a> {
    master: Option<u32>,
    kind: Option<&'a str>,
}

impl<'a> LinkFilter<'a> {
    /// Returns a filter that lets every link pass.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only ports of the bridge with this index.
    pub fn master(self, index: u32) -> Self {
        Self { master: Some(index), ..self }
    }

    /// Only links of a kind such as `ifb`.
    pub fn kind(self, kind: &'a str) -> Self {
        Self { kind: Some(kind), ..self }
    }

    fn covers(&self, link: &Link) -> bool {
        self.master.is_none_or(|master| link.master == Some(master))
            && self.kind.is_none_or(|kind| link.kind.as_deref() == Some(kind))
    }
}

impl Rtnetlink {
    /// Creates a link and returns its index. With [`NewLink::in_netns`] the index is that in the other namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: `EEXIST` if there is one with the name of it or of its peer, `EOPNOTSUPP` if the kernel lacks
    /// its kind, `EPERM`, `ENODEV` if the bridge is gone, `EINVAL`, `ERANGE`. [`Error::InvalidName`].
    pub fn create_link(&mut self, link: &NewLink<'_>) -> Result<u32> {
        let action = link.action();
        let message = link.message()?;
        let answer = self.connection().ask(&action, &message, Link::read)?;
        let created = answer.replies.into_iter().find(|reply| reply.name == link.name());
        let index = created.ok_or(Error::NoAnswer { action })?.index;
        if let Some(alias) = link.alias_text()
            && let Err(error) = self.change_link(index, &LinkChange::new().alias(alias))
        {
            // The first error is the one to report; a link that cannot be deleted either is a follow-up of it.
            let _ = self.delete_link(index);
            return Err(error);
        }
        Ok(index)
    }

    /// Changes a link.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: `ENODEV` if there is none, `EBUSY`, `EEXIST` if the name is taken, `EINVAL`, `EPERM`.
    pub fn change_link<'a>(&mut self, link: impl Into<LinkId<'a>>, change: &LinkChange<'_>) -> Result<()> {
        let link = link.into();
        let action = Action::new("change link", link.to_string());
        let message = change.message(link, &action)?;
        self.connection().execute(&action, &message)?;
        Ok(())
    }

    /// Sets a link up.
    ///
    /// # Errors
    ///
    /// As [`change_link`](Self::change_link).
    pub fn set_up<'a>(&mut self, link: impl Into<LinkId<'a>>) -> Result<()> {
        self.change_link(link, &LinkChange::new().up())
    }

    /// Returns a link.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: `ENODEV` if there is none ([`Error::is_not_found`]).
    pub fn link<'a>(&mut self, link: impl Into<LinkId<'a>>) -> Result<Link> {
        let link = link.into();
        let action = Action::new("look up link", link.to_string());
        let structure = ifinfomsg(libc::AF_UNSPEC, link.index()?, 0, 0);
        let mut message = Message::new(libc::RTM_GETLINK, 0, &structure);
        link.put_name(&mut message.body);
        let answer = self.connection().ask(&action, &message, Link::read)?;
        answer.replies.into_iter().next().ok_or(Error::NoAnswer { action })
    }

    /// Returns a link, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`link`](Self::link), without `ENODEV`.
    pub fn find_link<'a>(&mut self, link: impl Into<LinkId<'a>>) -> Result<Option<Link>> {
        match self.link(link) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the links that pass a filter, by index.
    ///
    /// # Errors
    ///
    /// As [`Connection::dump`](crate::Connection::dump).
    pub fn links(&mut self, filter: LinkFilter<'_>) -> Result<Vec<Link>> {
        let mut message = Message::new(libc::RTM_GETLINK, 0, &ifinfomsg(libc::AF_UNSPEC, 0, 0, 0));
        if let Some(master) = filter.master {
            message.body.u32(libc::IFLA_MASTER, master);
        }
        if let Some(kind) = filter.kind {
            message.body.nest(libc::IFLA_LINKINFO, |info| {
                info.text(libc::IFLA_INFO_KIND, kind);
            });
        }
        self.connection().dump(&Action::new("list links", ""), &message, |reply| {
            // Kernels without strict checking send all.
            Ok(Link::read(reply)?.filter(|link| filter.covers(link)))
        })
    }

    /// Deletes a link; tells whether there was one. Deleting one end of a veth pair deletes both.
    ///
    /// It takes the kernel tens of milliseconds, since it waits until nobody looks at the link any more. The death of a
    /// network namespace deletes its links without making anybody wait.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: `EOPNOTSUPP` if the link is of hardware, `EPERM`.
    pub fn delete_link<'a>(&mut self, link: impl Into<LinkId<'a>>) -> Result<bool> {
        let link = link.into();
        let action = Action::new("delete link", link.to_string());
        let structure = ifinfomsg(libc::AF_UNSPEC, link.index()?, 0, 0);
        let mut message = Message::new(libc::RTM_DELLINK, 0, &structure);
        link.put_name(&mut message.body);
        existed(self.connection().execute(&action, &message))
    }
}

/// Whether something was deleted.
pub(crate) fn existed<T>(deleted: Result<T>) -> Result<bool> {
    match deleted {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}
