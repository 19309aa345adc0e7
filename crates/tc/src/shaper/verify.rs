//! Reading back and comparing.

use super::apply::{facts, is_ours};
use super::plan::{Facts, Redirect, SHAPED, Tree, UNSHAPED};
use super::{DirectionStatistics, Shaper, ShaperStatistics};
use crate::control::TrafficControl;
use crate::difference::{Comparison, Difference, Field};
use crate::error::Result;
use crate::filter::{Classifier, Filter, FoundFilter, U32};
use crate::handle::Handle;
use crate::qdisc::Qdisc;

const NOTHING: &str = "nothing";

pub(super) fn verify(shaper: &Shaper, tc: &mut TrafficControl<'_>) -> Result<Vec<Difference>> {
    let name = shaper.link.as_str();
    let Some(link) = tc.netlink().find_link(name)? else {
        return Ok(vec![Difference::new(Field::Link, "a link", NOTHING).at(name)]);
    };
    let facts = facts(shaper, tc, &link)?;
    let plan = shaper.plan(facts)?;
    let mut all = Vec::new();
    match &plan.to_peer {
        Some(tree) => all.extend(place(name, tree_differences(tc, link.index, tree)?)),
        None => {
            let root = tc.qdisc(link.index, Handle::ROOT)?.filter(is_ours);
            all.extend(root.map(|root| {
                Difference::new(Field::Kind, NOTHING, root.qdisc.kind.name()).at("root").at(name)
            }));
        }
    }
    if let (Some(tree), Some(redirect), Some(ifb)) = (&plan.from_peer, &plan.redirect, &shaper.ifb) {
        let index = ifb_differences(tc, ifb, facts, tree, &mut all)?;
        all.extend(place(name, redirect_differences(tc, link.index, redirect, index)?));
    } else if let Some(ifb) = &shaper.ifb
        && tc.netlink().find_link(ifb)?.is_some()
    {
        all.push(Difference::new(Field::Link, NOTHING, "a link").at(ifb));
    }
    Ok(all)
}

fn place(place: &str, differences: Vec<Difference>) -> impl Iterator<Item = Difference> {
    differences.into_iter().map(move |difference| difference.at(place))
}

/// Compares the ifb and what hangs on it, and returns its index, 0 if it is absent.
fn ifb_differences(
    tc: &mut TrafficControl<'_>,
    name: &str,
    facts: Facts,
    tree: &Tree,
    all: &mut Vec<Difference>,
) -> Result<u32> {
    let Some(ifb) = tc.netlink().find_link(name)? else {
        all.push(Difference::new(Field::Link, "an ifb", NOTHING).at(name));
        return Ok(0);
    };
    let mut comparison = Comparison::default();
    comparison
        .equal(Field::Kind, "ifb", ifb.kind.as_deref().unwrap_or(NOTHING))
        .equal(Field::Up, true, ifb.is_up)
        .equal(Field::Mtu, facts.mtu, ifb.mtu);
    all.extend(place(name, comparison.finish()));
    all.extend(place(name, tree_differences(tc, ifb.index, tree)?));
    Ok(ifb.index)
}

fn tree_differences(tc: &mut TrafficControl<'_>, link: u32, tree: &Tree) -> Result<Vec<Difference>> {
    let mut all = qdisc_differences(tc, link, &tree.root)?;
    if !all.is_empty()
        && tc.qdisc(link, Handle::ROOT)?.is_none_or(|found| found.qdisc.handle != tree.root.handle)
    {
        // What hung below is gone with it.
        return Ok(all);
    }
    if !tree.classes.is_empty() {
        let found = tc.classes(link)?;
        for wanted in &tree.classes {
            let at = format!("class {}", wanted.handle);
            match found.iter().find(|found| found.class.handle == wanted.handle) {
                Some(found) => all.extend(place(&at, wanted.differences(&found.class, tc.psched()))),
                None => all.push(Difference::new(Field::Class, wanted.handle, NOTHING).at(&at)),
            }
        }
    }
    for leaf in &tree.leaves {
        all.extend(qdisc_differences(tc, link, leaf)?);
    }
    if !tree.classes.is_empty() {
        let found = tc.filters(link, tree.root.handle)?;
        all.extend(filter_differences(&tree.filters, &found.iter().collect::<Vec<_>>()));
    }
    Ok(all)
}

fn qdisc_differences(tc: &mut TrafficControl<'_>, link: u32, wanted: &Qdisc) -> Result<Vec<Difference>> {
    let at = match wanted.parent {
        Handle::ROOT => "root".to_owned(),
        Handle::INGRESS => "ingress".to_owned(),
        parent => format!("below {parent}"),
    };
    let Some(found) = tc.qdisc(link, wanted.parent)? else {
        return Ok(vec![Difference::new(Field::Kind, wanted.kind.name(), NOTHING).at(&at)]);
    };
    let mut comparison = Comparison::default();
    let mut all = comparison.equal(Field::Handle, wanted.handle, found.qdisc.handle).finish();
    all.extend(wanted.kind.differences(&found.qdisc.kind, tc.psched()));
    Ok(place(&at, all).collect())
}

fn redirect_differences(
    tc: &mut TrafficControl<'_>,
    link: u32,
    redirect: &Redirect,
    ifb: u32,
) -> Result<Vec<Difference>> {
    let mut all = qdisc_differences(tc, link, &redirect.qdisc)?;
    if !all.is_empty() {
        return Ok(all);
    }
    let wanted = redirect.filter(ifb, Classifier::U32(U32::all()));
    let found = tc.filters(link, redirect.parent)?;
    let ours: Vec<_> = found.iter().filter(|found| found.filter.priority == wanted.priority).collect();
    all.extend(place("ingress", filter_differences(&[wanted], &ours)));
    Ok(all)
}

fn filter_differences(wanted: &[Filter], found: &[&FoundFilter]) -> Vec<Difference> {
    if wanted.len() != found.len() {
        return vec![Difference::new(Field::Filters, wanted.len(), found.len())];
    }
    let pairs = in_order(wanted).into_iter().zip(found);
    pairs
        .flat_map(|(wanted, found)| {
            let at = format!("filter {} {}", wanted.priority, wanted.classifier);
            wanted.differences(&found.filter).into_iter().map(move |difference| difference.at(&at))
        })
        .collect()
}

/// The kernel lists filters by priority, and those of one priority as they were added.
pub(super) fn in_order(filters: &[Filter]) -> Vec<&Filter> {
    let mut sorted: Vec<&Filter> = filters.iter().collect();
    sorted.sort_by_key(|filter| filter.priority);
    sorted
}

pub(super) fn statistics(shaper: &Shaper, tc: &mut TrafficControl<'_>) -> Result<ShaperStatistics> {
    let mut all = ShaperStatistics::default();
    if shaper.to_peer.is_some() {
        all.to_peer = direction(tc, &shaper.link)?;
    }
    if let (Some(_), Some(ifb)) = (shaper.from_peer, &shaper.ifb) {
        all.from_peer = direction(tc, ifb)?;
    }
    Ok(all)
}

fn direction(tc: &mut TrafficControl<'_>, name: &str) -> Result<Option<DirectionStatistics>> {
    let link = tc.netlink().link(name)?.index;
    let Some(root) = tc.qdisc(link, Handle::ROOT)? else { return Ok(None) };
    let total = root.statistics;
    let classes = tc.classes(link)?;
    let of = |handle| classes.iter().find(|found| found.class.handle == handle).map(|found| found.statistics);
    Ok(Some(DirectionStatistics { total, shaped: of(SHAPED).unwrap_or(total), unshaped: of(UNSHAPED) }))
}
