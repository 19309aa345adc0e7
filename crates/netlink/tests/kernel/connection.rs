use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockname, sendto, socket,
};
use podrun_netlink::{Action, Connection, Error, LinkFilter, Message, NewLink, Protocol, Rtnetlink};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::namespace::{another, in_new};

#[test]
#[file_serial(kernel)]
#[serial]
fn a_dump_of_many_links_is_whole() {
    require!(root, netns);
    in_new(|here| {
        let names: Vec<String> = (0..300).map(|number| format!("ifb-{number}")).collect();
        for name in &names {
            here.create_link(&NewLink::ifb(name).alias(&"a".repeat(255))).unwrap();
        }
        let links = here.links(LinkFilter::new().kind("ifb")).unwrap();
        let found: Vec<&String> = links.iter().map(|link| &link.name).collect();
        assert_eq!(found, names.iter().collect::<Vec<_>>());
    });
}

/// Returns how many messages were sent, which only the text for people tells.
fn sent(netlink: &mut Rtnetlink) -> u32 {
    let text = format!("{:?}", netlink.connection());
    let (_, rest) = text.split_once("sequence: ").unwrap();
    rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_dump_that_is_disturbed_is_never_taken_for_whole() {
    require!(root, netns);
    in_new(|here| {
        for number in 0..120 {
            here.create_link(&NewLink::ifb(&format!("stays-{number}"))).unwrap();
        }
        let netns = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut other = Rtnetlink::open_in(&netns).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    other.create_link(&NewLink::ifb("flaps")).unwrap();
                    other.delete_link("flaps").unwrap();
                }
            });
            let before = sent(here);
            let (mut whole, mut asked) = (0, 0);
            let deadline = Instant::now() + Duration::from_secs(20);
            // Often, and until one of them was disturbed and read again.
            while asked < 50 || (sent(here) - before == asked && Instant::now() < deadline) {
                asked += 1;
                match here.links(LinkFilter::new()) {
                    Ok(links) => {
                        let stays = links.iter().filter(|link| link.name.starts_with("stays-")).count();
                        assert_eq!(stays, 120);
                        whole += 1;
                    }
                    Err(Error::DumpInterrupted { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            stop.store(true, Ordering::Relaxed);
            assert!(whole > 0);
            assert!(sent(here) - before > asked, "none of them was read again");
        });
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_dump_into_a_tiny_receive_buffer_is_whole() {
    require!(root, netns);
    in_new(|here| {
        for number in 0..100 {
            here.create_link(&NewLink::ifb(&format!("i{number}"))).unwrap();
        }
        here.connection().set_receive_buffer(1).unwrap();
        assert_eq!(here.links(LinkFilter::new().kind("ifb")).unwrap().len(), 100);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_socket_stays_in_its_namespace() {
    require!(root, netns);
    in_new(|here| {
        let netns = another();
        here.create_link(&NewLink::ifb("here")).unwrap();
        let mut there = Rtnetlink::open_in(&netns).unwrap();
        assert!(there.find_link("here").unwrap().is_none());
        there.create_link(&NewLink::ifb("there")).unwrap();
        let socket = there.as_fd().try_clone_to_owned().unwrap();
        let again = Connection::from_socket(Protocol::Route, socket).unwrap();
        assert_eq!(Rtnetlink::from_connection(again).link("there").unwrap().name, "there");
        assert!(here.find_link("there").unwrap().is_none());
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn what_another_process_sends_is_no_answer() {
    require!(root, netns);
    in_new(|here| {
        here.create_link(&NewLink::ifb("i")).unwrap();
        let ours = getsockname::<NetlinkAddr>(here.as_fd().as_raw_fd()).unwrap();
        let (forger, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let forger = socket(AddressFamily::Netlink, forger, flags, SockProtocol::NetlinkRoute).unwrap();
        // "Done", for every request that could come next.
        for sequence in 0..10u32 {
            let mut done = Message::new(2, 0, &[0; 20]).to_bytes();
            done[8..12].copy_from_slice(&sequence.to_ne_bytes());
            sendto(forger.as_raw_fd(), &done, &ours, MsgFlags::empty()).unwrap();
        }
        assert!(here.link("nothing").unwrap_err().is_not_found());
        assert_eq!(here.link("i").unwrap().name, "i");
        assert!(here.delete_link("i").unwrap());
        assert!(here.find_link("i").unwrap().is_none());
    });
}

#[test]
#[serial]
fn what_is_no_namespace_and_no_socket_is_refused() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = Rtnetlink::open_in(&file).unwrap_err();
    assert!(matches!(error, Error::Enter { .. }), "{error:?}");
    let error = Connection::from_socket(Protocol::Route, file.into()).unwrap_err();
    assert!(matches!(error, Error::Open { .. }), "{error:?}");
}

/// `struct nfgenmsg`: family, version, subsystem in network order.
fn nfgenmsg(family: u8, subsystem: u16) -> [u8; 4] {
    let [high, low] = subsystem.to_be_bytes();
    [family, 0, high, low]
}

const NFPROTO_INET: u8 = 1;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_GETTABLE: u16 = NFT_MSG_NEWTABLE | 1;
const NFT_MSG_DELTABLE: u16 = NFT_MSG_NEWTABLE | 2;
const NFTA_TABLE_NAME: u16 = 1;

fn table(kind: u16, bits: i32, name: &str) -> Message {
    let mut message = Message::new(kind, bits, &nfgenmsg(NFPROTO_INET, 0));
    message.body.text(NFTA_TABLE_NAME, name);
    message
}

fn tables(nft: &mut Connection) -> Vec<String> {
    let message = Message::new(NFT_MSG_GETTABLE, 0, &nfgenmsg(NFPROTO_INET, 0));
    nft.dump(&Action::new("list tables", ""), &message, |reply| {
        let (_, rest) = reply.split::<4>("struct nfgenmsg")?;
        for attribute in podrun_netlink::attributes(rest) {
            let attribute = attribute?;
            if attribute.kind() == NFTA_TABLE_NAME {
                return Ok(Some(attribute.text()));
            }
        }
        Ok(None)
    })
    .unwrap()
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_transaction_happens_whole_or_not_at_all() {
    require!(root, netns);
    in_new(|_| {
        let mut nft = Connection::open(Protocol::Netfilter).unwrap();
        let action = Action::new("change tables", "");
        let mut change = |messages: &[Message]| {
            nft.transaction(&action, NFNL_SUBSYS_NFTABLES, messages, |_| Ok(None::<()>))?;
            Ok::<_, Error>(tables(&mut nft))
        };
        let create = |name| table(NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, name);
        assert_eq!(change(&["t0", "t1", "t2"].map(create)).unwrap(), ["t0", "t1", "t2"]);
        assert_eq!(change(&[]).unwrap().len(), 3);

        let delete = |name| table(NFT_MSG_DELTABLE, 0, name);
        let error = change(&["t0", "nothing", "t1", "nobody"].map(delete)).unwrap_err();
        assert!(matches!(error, Error::TransactionRefused { index: Some(1), .. }), "{error:?}");
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), "change tables: message 1 of the transaction");
        assert_eq!(change(&[]).unwrap().len(), 3);
        assert_eq!(change(&["t0", "t2"].map(delete)).unwrap(), ["t1"]);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_transaction_may_be_larger_than_the_send_buffer() {
    require!(root, netns);
    in_new(|_| {
        let mut nft = Connection::open(Protocol::Netfilter).unwrap();
        let names: Vec<String> = (0..3000).map(|number| format!("{number:0>120}")).collect();
        let messages: Vec<_> =
            names.iter().map(|name| table(NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, name)).collect();
        let action = Action::new("create tables", "");
        nft.transaction(&action, NFNL_SUBSYS_NFTABLES, &messages, |_| Ok(None::<()>)).unwrap();
        assert_eq!(tables(&mut nft).len(), 3000);
    });
}
