//! Making it so.

use podrun_netlink::{Link, LinkChange, NewLink};

use super::plan::{Facts, HTB, Plan, REDIRECT_PRIORITY, Redirect, TBF, Tree};
use super::{Queue, Shaper, Style};
use crate::control::TrafficControl;
use crate::error::{Error, Result};
use crate::filter::{Classifier, Filter, U32};
use crate::handle::Handle;
use crate::qdisc::{FoundQdisc, Qdisc, QdiscKind};

/// The ordered procedure.
pub(super) fn apply(shaper: &Shaper, tc: &mut TrafficControl<'_>) -> Result<()> {
    let wants_something = shaper.to_peer.is_some() || shaper.from_peer.is_some();
    let Some(link) = tc.netlink().find_link(shaper.link.as_str())? else {
        if wants_something {
            // For the error that says so.
            tc.netlink().link(shaper.link.as_str())?;
        }
        // The link took its disciplines with it, but the ifb is a link of its own.
        return delete_ifb(shaper, tc);
    };
    // Everything is checked before anything is changed.
    if let Some(ifb) = &shaper.ifb {
        find_ifb(tc, ifb)?;
    }
    let plan = shaper.plan(facts(shaper, tc, &link)?)?;

    match &plan.to_peer {
        Some(tree) => put_tree(tc, link.index, tree)?,
        None => delete_root(tc, link.index)?,
    }
    if let Plan { from_peer: Some(tree), redirect: Some(redirect), .. } = &plan {
        // No packet comes to the ifb before it is shaped there.
        let ifb = ensure_ifb(shaper, tc, &link)?;
        put_tree(tc, ifb, tree)?;
        put_redirect(tc, link.index, redirect, ifb)
    } else {
        // And none is on its way there when it is deleted.
        delete_redirect(tc, link.index)?;
        delete_ifb(shaper, tc)
    }
}

/// Finds out what a plan depends on.
pub(super) fn facts(shaper: &Shaper, tc: &mut TrafficControl<'_>, link: &Link) -> Result<Facts> {
    let shapes = shaper.to_peer.is_some() || shaper.from_peer.is_some();
    let matters = shapes && shaper.queue == Queue::Auto && shaper.style == Style::Native;
    let has_fq_codel = matters && tc.has_qdisc_kind(link.index, "fq_codel")?;
    Ok(Facts::of(link, has_fq_codel))
}

fn put_tree(tc: &mut TrafficControl<'_>, link: u32, tree: &Tree) -> Result<()> {
    put_root(tc, link, tree)?;
    if !tree.classes.is_empty() {
        let found = tc.classes(link)?;
        for wanted in &tree.classes {
            let existing = found.iter().find(|found| found.class.handle == wanted.handle);
            let is_right = existing.is_some_and(|found| {
                found.class.parent == Handle::ROOT && wanted.differences(&found.class, tc.psched()).is_empty()
            });
            if !is_right {
                tc.set_class(link, wanted)?;
            }
        }
    }
    for wanted in &tree.leaves {
        let found = tc.qdisc(link, wanted.parent)?;
        put_qdisc(tc, link, wanted, found.as_ref())?;
    }
    if tree.classes.is_empty() { Ok(()) } else { put_filters(tc, link, tree) }
}

fn put_root(tc: &mut TrafficControl<'_>, link: u32, tree: &Tree) -> Result<()> {
    let found = tc.qdisc(link, Handle::ROOT)?;
    // A bucket that is to have no leaf of its own cannot get its first one back.
    let has_leaf = tree.leaves.is_empty()
        && found.as_ref().is_some_and(|found| found.qdisc.handle == TBF)
        && tc.qdisc(link, Handle::new(TBF.major(), 1))?.is_some();
    if has_leaf {
        tc.delete_qdisc(link, Handle::ROOT)?;
        return tc.replace_qdisc(link, &tree.root);
    }
    put_qdisc(tc, link, &tree.root, found.as_ref())
}

/// Changes in place what can be changed, and replaces at once what has another name.
fn put_qdisc(
    tc: &mut TrafficControl<'_>,
    link: u32,
    wanted: &Qdisc,
    found: Option<&FoundQdisc>,
) -> Result<()> {
    if let Some(found) = found.filter(|found| found.qdisc.handle == wanted.handle) {
        if wanted.kind.differences(&found.qdisc.kind, tc.psched()).is_empty() {
            return Ok(());
        }
        // One of another kind holds the name, and HTB has no parameters that can be changed.
        let is_fixed = matches!(wanted.kind, QdiscKind::Htb(_));
        if is_fixed || wanted.kind.name() != found.qdisc.kind.name() {
            tc.delete_qdisc(link, wanted.parent)?;
        }
    }
    tc.replace_qdisc(link, wanted)
}

fn put_filters(tc: &mut TrafficControl<'_>, link: u32, tree: &Tree) -> Result<()> {
    let parent = tree.root.handle;
    let found = tc.filters(link, parent)?;
    let is_right = found.len() == tree.filters.len()
        && super::verify::in_order(&tree.filters)
            .into_iter()
            .zip(&found)
            .all(|(wanted, found)| wanted.differences(&found.filter).is_empty());
    if is_right {
        return Ok(());
    }
    for found in found {
        tc.delete_filters(link, parent, found.filter.priority, Some(found.filter.protocol))?;
    }
    tree.filters.iter().try_for_each(|filter| tc.add_filter(link, filter))
}

fn put_redirect(tc: &mut TrafficControl<'_>, link: u32, redirect: &Redirect, ifb: u32) -> Result<()> {
    let found = tc.qdisc(link, Handle::INGRESS)?;
    match found {
        Some(found) if found.qdisc.kind == redirect.qdisc.kind => {}
        Some(_) => {
            tc.delete_qdisc(link, Handle::INGRESS)?;
            tc.add_qdisc(link, &redirect.qdisc)?;
        }
        None => tc.add_qdisc(link, &redirect.qdisc)?,
    }
    let wanted = redirect.filter(ifb, Classifier::U32(U32::all()));
    let found = tc.filters(link, redirect.parent)?;
    let ours: Vec<_> = found.iter().filter(|found| found.filter.priority == REDIRECT_PRIORITY).collect();
    if let [found] = ours.as_slice()
        && wanted.differences(&found.filter).is_empty()
        && !(redirect.only_u32 && found.filter.classifier == Classifier::MatchAll)
    {
        return Ok(());
    }
    if !ours.is_empty() {
        tc.delete_filters(link, redirect.parent, REDIRECT_PRIORITY, None)?;
    }
    if redirect.only_u32 {
        return tc.add_filter(link, &wanted);
    }
    match tc.add_filter(link, &redirect.filter(ifb, Classifier::MatchAll)) {
        // The kernel lacks matchall.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => tc.add_filter(link, &wanted),
        added => added,
    }
}

/// Deletes the root discipline if it looks like one of ours.
fn delete_root(tc: &mut TrafficControl<'_>, link: u32) -> Result<()> {
    if tc.qdisc(link, Handle::ROOT)?.is_some_and(|found| is_ours(&found)) {
        tc.delete_qdisc(link, Handle::ROOT)?;
    }
    Ok(())
}

pub(super) fn is_ours(root: &FoundQdisc) -> bool {
    match root.qdisc.kind {
        QdiscKind::Tbf(_) => root.qdisc.handle == TBF,
        QdiscKind::Htb(_) => root.qdisc.handle == HTB,
        _ => false,
    }
}

/// Deletes the filter that redirects, and the discipline it hangs on if nobody else has a filter there.
fn delete_redirect(tc: &mut TrafficControl<'_>, link: u32) -> Result<()> {
    let Some(found) = tc.qdisc(link, Handle::INGRESS)? else { return Ok(()) };
    let parents: &[Handle] = match found.qdisc.kind {
        QdiscKind::Clsact => &[Handle::CLSACT_INGRESS, Handle::CLSACT_EGRESS],
        _ => &[Handle::INGRESS_FILTERS],
    };
    let redirects = |filter: &Filter| filter.priority == REDIRECT_PRIORITY && !filter.actions.is_empty();
    let mut others = 0;
    for parent in parents {
        for found in tc.filters(link, *parent)? {
            if *parent != Handle::CLSACT_EGRESS && redirects(&found.filter) {
                tc.delete_filters(link, *parent, REDIRECT_PRIORITY, None)?;
            } else {
                others += 1;
            }
        }
    }
    if others == 0 {
        tc.delete_qdisc(link, Handle::INGRESS)?;
    }
    Ok(())
}

fn ensure_ifb(shaper: &Shaper, tc: &mut TrafficControl<'_>, link: &Link) -> Result<u32> {
    let name =
        shaper.ifb.as_deref().expect("what comes from the peer is limited together with the name of the ifb");
    let Some(found) = find_ifb(tc, name)? else {
        let mut ifb = NewLink::ifb(name).mtu(link.mtu).up();
        if let Some(alias) = &shaper.alias {
            ifb = ifb.alias(alias);
        }
        return Ok(tc.netlink().create_link(&ifb)?);
    };
    if found.mtu != link.mtu || !found.is_up {
        tc.netlink().change_link(found.index, &LinkChange::new().mtu(link.mtu).up())?;
    }
    Ok(found.index)
}

fn delete_ifb(shaper: &Shaper, tc: &mut TrafficControl<'_>) -> Result<()> {
    let Some(name) = &shaper.ifb else { return Ok(()) };
    if let Some(found) = find_ifb(tc, name)? {
        tc.netlink().delete_link(found.index)?;
    }
    Ok(())
}

fn find_ifb(tc: &mut TrafficControl<'_>, name: &str) -> Result<Option<Link>> {
    let Some(found) = tc.netlink().find_link(name)? else { return Ok(None) };
    match found.kind.as_deref() {
        Some("ifb") => Ok(Some(found)),
        kind => Err(Error::NotIfb { name: name.to_owned(), kind: kind.unwrap_or("no kind").to_owned() }),
    }
}
