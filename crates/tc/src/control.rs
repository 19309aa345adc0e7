//! Requests to the kernel.

use podrun_netlink::{Action, Message, Rtnetlink};

use crate::error::{Error, Result};
use crate::filter::{Filter, FoundFilter, Protocol};
use crate::handle::Handle;
use crate::psched::Psched;
use crate::qdisc::{FoundClass, FoundQdisc, HtbClass, Qdisc};
use crate::wire::{KIND, OPTIONS, Tcmsg};

/// A handle that nobody has, since nothing with it is ever made.
const PROBE: u16 = 0x7ffe;

/// Queueing disciplines, classes and filters of the links of one network namespace, each link by its index.
///
/// ```no_run
/// use podrun_netlink::Rtnetlink;
/// use podrun_tc::{Bytes, Handle, Qdisc, QdiscKind, Rate, Tbf, TrafficControl};
///
/// let mut netlink = Rtnetlink::open()?;
/// let link = netlink.link("veth0")?.index;
/// let mut tc = TrafficControl::new(&mut netlink)?;
/// let bucket = Tbf::new(Rate::from_bits_per_second(10_000_000), Bytes::new(71_680), Bytes::new(134_180));
/// tc.replace_qdisc(link, &Qdisc::root(Handle::qdisc(1), QdiscKind::Tbf(bucket)))?;
/// for found in tc.qdiscs(link)? {
///     println!("{} {}: {:?}", found.qdisc.handle, found.qdisc.kind.name(), found.statistics);
/// }
/// # Ok::<(), podrun_tc::Error>(())
/// ```
#[derive(Debug)]
pub struct TrafficControl<'a> {
    netlink: &'a mut Rtnetlink,
    psched: Psched,
}

impl<'a> TrafficControl<'a> {
    /// Uses a socket, and reads the kernel's unit of time.
    ///
    /// # Errors
    ///
    /// As [`Psched::read`].
    pub fn new(netlink: &'a mut Rtnetlink) -> Result<Self> {
        Ok(Self::with_psched(netlink, Psched::read()?))
    }

    /// Uses a socket and a unit of time that is known; needs no `/proc`.
    pub fn with_psched(netlink: &'a mut Rtnetlink, psched: Psched) -> Self {
        Self { netlink, psched }
    }

    /// Returns the kernel's unit of time.
    pub fn psched(&self) -> Psched {
        self.psched
    }

    /// Returns the socket.
    pub fn netlink(&mut self) -> &mut Rtnetlink {
        self.netlink
    }

    /// Adds a queueing discipline where there is none but the kernel's default.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`]: `EEXIST` if there is one, `ENOENT` if the kernel lacks its kind or the class above is absent,
    /// `ENODEV`, `EPERM`, `EINVAL`.
    pub fn add_qdisc(&mut self, link: u32, qdisc: &Qdisc) -> Result<()> {
        self.qdisc_request("add qdisc", link, qdisc, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
    }

    /// Puts a queueing discipline into its place. One of the same kind and handle is changed in place and keeps its
    /// counters and what waits; anything else is replaced at once.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`]: `EINVAL` if one of another kind has the handle; else as [`add_qdisc`](Self::add_qdisc).
    pub fn replace_qdisc(&mut self, link: u32, qdisc: &Qdisc) -> Result<()> {
        self.qdisc_request("replace qdisc", link, qdisc, libc::NLM_F_CREATE | libc::NLM_F_REPLACE)
    }

    /// Changes the parameters of a queueing discipline in place.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`]: `ENOENT` if there is none with the handle, `EINVAL` if it is of another kind.
    pub fn change_qdisc(&mut self, link: u32, qdisc: &Qdisc) -> Result<()> {
        self.qdisc_request("change qdisc", link, qdisc, 0)
    }

    fn qdisc_request(&mut self, verb: &'static str, link: u32, qdisc: &Qdisc, flags: i32) -> Result<()> {
        let (name, parent) = (qdisc.kind.name(), qdisc.parent);
        let action = Action::new(verb, format!("{name} at {parent} of link {link}"));
        self.execute(&action, &qdisc.message(link, flags, self.psched))
    }

    /// Deletes the queueing discipline at a place, with all below it; tells whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`]: `EPERM`.
    pub fn delete_qdisc(&mut self, link: u32, parent: Handle) -> Result<bool> {
        let action = Action::new("delete qdisc", format!("at {parent} of link {link}"));
        existed(self.execute(&action, &Qdisc::deletion(link, parent, None)))
    }

    /// Lists the queueing disciplines of a link. The kernel reads those of all links for it; [`qdisc`](Self::qdisc) is
    /// cheaper where there are many.
    ///
    /// # Errors
    ///
    /// As [`Connection::dump`](podrun_netlink::Connection::dump).
    pub fn qdiscs(&mut self, link: u32) -> Result<Vec<FoundQdisc>> {
        let action = Action::new("list qdiscs", format!("of link {link}"));
        let message = Tcmsg { link, handle: Handle::NONE, parent: Handle::NONE, info: 0 }
            .message(libc::RTM_GETQDISC, 0);
        let psched = self.psched;
        let found = self.netlink.connection().dump(&action, &message, |reply| {
            Ok(FoundQdisc::read(reply, psched)?.filter(|found| found.link == link))
        });
        Ok(found?)
    }

    /// Returns the queueing discipline at a place, or `None` if there is none but the kernel's default.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`]: `ENODEV` if there is no such link.
    pub fn qdisc(&mut self, link: u32, parent: Handle) -> Result<Option<FoundQdisc>> {
        let action = Action::new("look up qdisc", format!("at {parent} of link {link}"));
        // Kernels answer this by a notification, of which the one who asked gets a copy only with this flag.
        let tcmsg = Tcmsg { link, handle: Handle::NONE, parent, info: 0 };
        let message = tcmsg.message(libc::RTM_GETQDISC, libc::NLM_F_ECHO);
        let psched = self.psched;
        match self.netlink.connection().ask(&action, &message, |reply| FoundQdisc::read(reply, psched)) {
            Ok(answer) => {
                Ok(answer.replies.into_iter().next().filter(|found| found.qdisc.handle != Handle::NONE))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds a class, or changes one in place.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`]: `ENOENT` if the class above is absent, `EINVAL`, `ENODEV`, `EPERM`.
    pub fn set_class(&mut self, link: u32, class: &HtbClass) -> Result<()> {
        let action = Action::new("set class", format!("{} of link {link}", class.handle));
        self.execute(&action, &class.message(link, libc::NLM_F_CREATE, self.psched))
    }

    /// Deletes a class, with all below it; tells whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`]: `EBUSY` if it has classes below it or filters lead to it.
    pub fn delete_class(&mut self, link: u32, class: Handle) -> Result<bool> {
        let action = Action::new("delete class", format!("{class} of link {link}"));
        existed(self.execute(&action, &HtbClass::deletion(link, class)))
    }

    /// Lists the classes of all HTBs of a link.
    ///
    /// # Errors
    ///
    /// As [`Connection::dump`](podrun_netlink::Connection::dump).
    pub fn classes(&mut self, link: u32) -> Result<Vec<FoundClass>> {
        let action = Action::new("list classes", format!("of link {link}"));
        let message = Tcmsg { link, handle: Handle::NONE, parent: Handle::NONE, info: 0 }
            .message(libc::RTM_GETTCLASS, 0);
        let psched = self.psched;
        Ok(self.netlink.connection().dump(&action, &message, |reply| HtbClass::read(reply, psched))?)
    }

    /// Adds a filter. The same one can be added twice: look with [`filters`](Self::filters) first.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`]: `ENOENT` if the kernel lacks its kind, `EINVAL` if its parent is absent, `ENODEV`, `EPERM`.
    pub fn add_filter(&mut self, link: u32, filter: &Filter) -> Result<()> {
        let (name, parent) = (filter.classifier.name(), filter.parent);
        let action = Action::new("add filter", format!("{name} at {parent} of link {link}"));
        self.execute(&action, &filter.message(link, libc::NLM_F_CREATE | libc::NLM_F_EXCL))
    }

    /// Deletes all filters with a parent and a priority; tells whether there was one. With a protocol, only if it is
    /// theirs.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`]: `EPERM`.
    pub fn delete_filters(
        &mut self,
        link: u32,
        parent: Handle,
        priority: u16,
        protocol: Option<Protocol>,
    ) -> Result<bool> {
        let action = Action::new("delete filters", format!("{priority} at {parent} of link {link}"));
        let deleted = self.execute(&action, &Filter::deletion(link, parent, priority, protocol));
        match deleted {
            // An absent parent is EINVAL to the kernel, like many a real mistake.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                if self.filters(link, parent)?.is_empty() { Ok(false) } else { Err(error) }
            }
            deleted => existed(deleted),
        }
    }

    /// Lists the filters with a parent, in their order.
    ///
    /// # Errors
    ///
    /// As [`Connection::dump`](podrun_netlink::Connection::dump).
    pub fn filters(&mut self, link: u32, parent: Handle) -> Result<Vec<FoundFilter>> {
        let action = Action::new("list filters", format!("at {parent} of link {link}"));
        let message = Tcmsg { link, handle: Handle::NONE, parent, info: 0 }.message(libc::RTM_GETTFILTER, 0);
        let found = self.netlink.connection().dump(&action, &message, |reply| {
            // The filters of both sides of clsact share a list per priority.
            Ok(FoundFilter::read(reply)?.filter(|found| found.filter.parent == parent))
        });
        Ok(found?)
    }

    /// Whether the kernel has a kind of queueing discipline, loading its module if there is one. Nothing is changed: the
    /// kernel looks for the kind first and then refuses what it is asked for.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidValue`] if the kind is none of `tbf`, `htb`, `fq_codel` and `netem`: others would take anything.
    /// [`Error::Netlink`]: `EPERM`, `ENODEV`.
    pub fn has_qdisc_kind(&mut self, link: u32, kind: &str) -> Result<bool> {
        if !["tbf", "htb", "fq_codel", "netem"].contains(&kind) {
            let reason = "it cannot be asked for without being made".to_owned();
            return Err(Error::InvalidValue { what: "a kind of qdisc", value: format!("{kind:?}"), reason });
        }
        let action = Action::new("probe for qdisc", kind.to_owned());
        let tcmsg = Tcmsg { link, handle: Handle::qdisc(PROBE), parent: Handle::ROOT, info: 0 };
        let mut message = tcmsg.message(libc::RTM_NEWQDISC, libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
        // No option of these kinds has a single byte.
        message.body.text(KIND, kind).nest_unmarked(OPTIONS, |options| {
            for attribute in 1..=7 {
                options.u8(attribute, 0);
            }
        });
        match self.execute(&action, &message) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ERANGE)) => Ok(true),
            executed => executed.map(|()| true),
        }
    }

    fn execute(&mut self, action: &Action, message: &Message) -> Result<()> {
        self.netlink.connection().execute(action, message)?;
        Ok(())
    }
}

fn existed(deleted: Result<()>) -> Result<bool> {
    match deleted {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}
