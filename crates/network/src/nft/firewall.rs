//! The tables in the kernel: install, add and take away what is a Pod's, read back, compare.

use std::collections::BTreeMap;

use ipnet::IpNet;
use podrun_netlink::{Action, Connection, Error as NetlinkError, Message, Protocol};
use podrun_plan::names::{NodeNames, hash};

use super::element::{Element, GET_ELEMENT, Listed, listed, userdata_comment};
use super::expr::Expr;
use super::ruleset::{
    Chain, GET_CHAIN, GET_RULE, GET_SET, GET_TABLE, Hook, Set, TABLE_USERDATA, Table, Type, bridge,
    family_name, inet,
};
use super::wire::{Fields, NFTABLES};
use crate::difference::Difference;
use crate::error::Result;

/// The elements of all sets, by family and name of the set.
pub(crate) type Elements = BTreeMap<(u8, String), Vec<Listed>>;

/// podrun's tables in the network namespace in which the calling thread was when this was opened.
pub(crate) struct Firewall {
    connection: Connection,
    name: String,
    tables: [Table; 2],
    /// Says which rules a table has, so that one look at it is enough to know that it is there and up to date.
    stamp: Vec<u8>,
}

/// What is in the place of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing.
    Absent,
    /// The tables, as far as their stamp says.
    Installed,
    /// One of them, or those of other subnets or another version of podrun.
    Other,
}

impl Firewall {
    pub(crate) fn open(names: &NodeNames, subnets: &[IpNet]) -> Result<Self> {
        let tables = [inet(&names.table, &names.bridge, subnets), bridge(&names.table)];
        let bytes = tables.iter().flat_map(|table| table.create(&[]));
        let bytes: Vec<u8> = bytes.flat_map(|message| message.body.as_bytes().to_vec()).collect();
        Ok(Self {
            connection: Connection::open(Protocol::Netfilter)?,
            name: names.table.clone(),
            stamp: userdata_comment(&format!("podrun {:016x}", hash(&bytes))),
            tables,
        })
    }

    /// Looks at the stamps of the tables.
    pub(crate) fn state(&mut self) -> Result<State> {
        let mut found = Vec::new();
        for table in &self.tables {
            let action = Action::new("look at table", format!("{:?}", table.name));
            let request = table.message(GET_TABLE, 0, |_| ());
            let stamp =
                |payload: &[u8]| Fields::of_message(payload).get(TABLE_USERDATA).unwrap_or_default().to_vec();
            match self.connection.ask(&action, &request, |reply| Ok(Some(stamp(reply.payload())))) {
                Ok(answer) => found.push(answer.replies.first() == Some(&self.stamp)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(match found.as_slice() {
            [] => State::Absent,
            [true, true] => State::Installed,
            _ => State::Other,
        })
    }

    /// Makes the tables as they have to be, in one step. Elements of tables that are there are taken over.
    pub(crate) fn install(&mut self) -> Result<()> {
        let state = self.state()?;
        if state == State::Installed {
            return Ok(());
        }
        self.replace()
    }

    /// As [`Firewall::install`], whatever the stamp says.
    pub(crate) fn replace(&mut self) -> Result<()> {
        let elements = self.elements()?;
        let mut messages = Vec::new();
        for table in &self.tables {
            // Made first, so that there is one to delete.
            messages.extend([table.message(0, 0, |_| ()), table.delete()]);
            messages.extend(table.create(&self.stamp));
            for set in &table.sets {
                let kept = elements.get(&(table.family, set.name.clone())).into_iter().flatten();
                messages.extend(kept.map(|element| element.add(table.family, &table.name, &set.name)));
            }
        }
        self.commit("install table", messages)
    }

    /// Deletes the tables with everything in them. May be repeated.
    pub(crate) fn remove(&mut self) -> Result<()> {
        let messages = self.tables.iter().flat_map(|table| [table.message(0, 0, |_| ()), table.delete()]);
        let messages = messages.collect();
        self.commit("delete table", messages)
    }

    /// Adds what is a Pod's. May be repeated; what is there with other data is replaced.
    pub(crate) fn add(&mut self, uid: &str, elements: &[Element]) -> Result<()> {
        let mut replaced = vec![false; elements.len()];
        loop {
            let mut owners = Vec::new();
            let mut messages = Vec::new();
            for (index, element) in elements.iter().enumerate() {
                if replaced[index] {
                    messages.push(element.delete(&self.name));
                    owners.push(index);
                }
                messages.push(element.add(&self.name, uid));
                owners.push(index);
            }
            match self.try_commit("add to table", &messages) {
                Err(NetlinkError::TransactionRefused { index: Some(index), source, .. })
                    if matches!(source.errno, libc::EEXIST | libc::EBUSY)
                        && owners.get(index).is_some_and(|owner| !replaced[*owner]) =>
                {
                    replaced[owners[index]] = true;
                }
                done => return Ok(done?),
            }
        }
    }

    /// Adds what is a Pod's and is missing in what was listed, and takes away what carries its name and is not wanted. Returns
    /// whether anything had to be done.
    pub(crate) fn mend(&mut self, there: &Elements, uid: &str, wanted: &[Element]) -> Result<bool> {
        let found = |element: &Element| {
            let set = there.get(&(element.family, element.set.to_owned()))?;
            set.iter().find(|found| found.key == element.key)
        };
        let is_right = |element: &Element| {
            found(element)
                .is_some_and(|found| found.comment.as_deref() == Some(uid) && found.data == element.data)
        };
        let wrong: Vec<Element> = wanted.iter().filter(|element| !is_right(element)).cloned().collect();
        // Adding one that is there would not change its name.
        let mut messages: Vec<Message> = wrong.iter().map(|element| element.delete(&self.name)).collect();
        for ((family, set), elements) in there {
            for found in elements.iter().filter(|found| found.comment.as_deref() == Some(uid)) {
                let is_wanted =
                    |e: &Element| (e.family, e.set, &e.key) == (*family, set.as_str(), &found.key);
                if !wanted.iter().any(is_wanted) {
                    messages.push(found.delete(*family, &self.name, set));
                }
            }
        }
        if messages.is_empty() {
            return Ok(false);
        }
        self.delete_all(messages)?;
        self.add(uid, &wrong)?;
        Ok(true)
    }

    /// Takes away what is a Pod's. May be repeated.
    pub(crate) fn delete(&mut self, elements: &[Element]) -> Result<()> {
        self.delete_all(elements.iter().map(|element| element.delete(&self.name)).collect())
    }

    /// Takes away what carries the name of a Pod that `keep` does not want kept; returns how many elements that were.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) -> Result<usize> {
        let mut messages = Vec::new();
        for ((family, set), elements) in self.elements()? {
            let gone = |element: &&Listed| !element.comment.as_deref().is_some_and(&keep);
            let delete = |element: &Listed| element.delete(family, &self.name, &set);
            messages.extend(elements.iter().filter(gone).map(delete));
        }
        let count = messages.len();
        self.delete_all(messages)?;
        Ok(count)
    }

    /// Deletes elements in one step. One that is gone already, or whose table is, is no error.
    fn delete_all(&mut self, mut messages: Vec<Message>) -> Result<()> {
        loop {
            match self.try_commit("delete from table", &messages) {
                Err(NetlinkError::TransactionRefused { index: Some(index), source, .. })
                    if source.errno == libc::ENOENT && index < messages.len() =>
                {
                    messages.remove(index);
                }
                done => return Ok(done?),
            }
        }
    }

    /// Lists the elements of all sets; none where there is no table.
    pub(crate) fn elements(&mut self) -> Result<Elements> {
        let mut all = Elements::new();
        for table in &self.tables {
            for set in &table.sets {
                let action = Action::new("list set", format!("{:?}", set.name));
                let request = table.message(GET_ELEMENT, 0, |body| {
                    body.text(2, &set.name);
                });
                let read = self
                    .connection
                    .dump(&action, &request, |reply| Ok(Some(listed(Fields::of_message(reply.payload())))));
                match read {
                    Ok(lists) => {
                        all.insert((table.family, set.name.clone()), lists.concat());
                    }
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(all)
    }

    /// Compares chains, rules and sets with what they should be.
    pub(crate) fn differences(&mut self) -> Result<Vec<Difference>> {
        let mut differences = Vec::new();
        for wanted in self.tables.clone() {
            let found = self.read(&wanted)?;
            compare(&wanted, &found, &mut differences);
        }
        Ok(differences)
    }

    /// Reads a table back.
    fn read(&mut self, like: &Table) -> Result<Table> {
        let list = |connection: &mut Connection, kind| {
            let action = Action::new("list table", format!("{:?}", like.name));
            let request = like.message(kind, 0, |_| ());
            let read = connection.dump(&action, &request, |reply| {
                let payload = reply.payload();
                // Not every dump can be asked for one table only.
                let ours = payload.first() == Some(&like.family)
                    && Fields::of_message(payload).text(1) == Some(&like.name);
                Ok(ours.then(|| payload.to_vec()))
            });
            match read {
                Err(error) if error.is_not_found() => Ok(Vec::new()),
                read => read,
            }
        };
        let chains = list(&mut self.connection, GET_CHAIN)?;
        let rules = list(&mut self.connection, GET_RULE)?;
        let sets = list(&mut self.connection, GET_SET)?;
        let chain = |payload: &Vec<u8>| {
            let fields = Fields::of_message(payload);
            let name = fields.text(3).unwrap_or_default();
            let of_chain = |rule: &&Vec<u8>| Fields::of_message(rule).text(2) == Some(name);
            let exprs = |rule: &Vec<u8>| Expr::read_list(Fields::of_message(rule).nested(4));
            Chain {
                name: name.to_owned(),
                hook: hook(fields),
                rules: rules.iter().filter(of_chain).map(exprs).collect(),
            }
        };
        let set = |payload: &Vec<u8>| {
            let fields = Fields::of_message(payload);
            let of = |number, len| Some(Type { number: fields.u32(number)?, len: fields.u32(len)? });
            Some(Set { name: fields.text(2)?.to_owned(), key: of(4, 5)?, data: of(6, 7) })
        };
        Ok(Table {
            chains: chains.iter().map(chain).collect(),
            sets: sets.iter().filter_map(set).collect(),
            ..like.clone()
        })
    }

    fn commit(&mut self, verb: &'static str, messages: Vec<Message>) -> Result<()> {
        Ok(self.try_commit(verb, &messages)?)
    }

    fn try_commit(&mut self, verb: &'static str, messages: &[Message]) -> Result<(), NetlinkError> {
        let action = Action::new(verb, format!("{:?}", self.name));
        self.connection.transaction::<()>(&action, NFTABLES.into(), messages, |_| Ok(None)).map(drop)
    }
}

fn hook(chain: Fields<'_>) -> Option<Hook> {
    let place = chain.nested(4);
    Some(Hook {
        kind: chain.text(7)?.to_owned(),
        number: place.u32(1)?,
        priority: place.u32(2)?.cast_signed(),
    })
}

/// Finds what of a table is not as it should be. Chains and sets that somebody added are none of our affair.
fn compare(wanted: &Table, found: &Table, differences: &mut Vec<Difference>) {
    let table = format!("table {} {}", family_name(wanted.family), wanted.name);
    for chain in &wanted.chains {
        let name = format!("{table}, chain {}", chain.name);
        let Some(there) = found.chains.iter().find(|there| there.name == chain.name) else {
            differences.push(Difference::missing(name));
            continue;
        };
        if there.hook != chain.hook {
            differences.push(Difference::of(format!("{name}, hook"), &chain.hook, &there.hook));
        }
        for index in 0..chain.rules.len().max(there.rules.len()) {
            let name = format!("{name}, rule {}", index + 1);
            match (chain.rules.get(index), there.rules.get(index)) {
                (Some(_), None) => differences.push(Difference::missing(name)),
                (None, Some(_)) => differences.push(Difference::unexpected(name)),
                (Some(rule), Some(there)) => compare_rules(&name, rule, there, differences),
                (None, None) => {}
            }
        }
    }
    for set in &wanted.sets {
        let name = format!("{table}, set {}", set.name);
        match found.sets.iter().find(|there| there.name == set.name) {
            None => differences.push(Difference::missing(name)),
            Some(there) if there != set => {
                differences.push(Difference::of(format!("{name}, types"), set, there));
            }
            Some(_) => {}
        }
    }
}

fn compare_rules(name: &str, wanted: &[Expr], found: &[Expr], differences: &mut Vec<Difference>) {
    let lasting = |rule: &[Expr], at| rule.get(at).map(Expr::lasting);
    for at in 0..wanted.len().max(found.len()) {
        let (wanted, found) = (lasting(wanted, at), lasting(found, at));
        if wanted != found {
            differences.push(Difference::of(format!("{name}, expression {}", at + 1), &wanted, &found));
            return;
        }
    }
}
