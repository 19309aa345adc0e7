use podrun_netlink::{Error, Existing, MacAddress, Neighbour, NewAddress};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::namespace::{in_new, veth};

#[test]
#[file_serial(kernel)]
#[serial]
fn an_address_is_added_once_and_deleted_once() {
    require!(root, netns);
    in_new(|here| {
        let (a, b) = veth(here);
        for network in ["10.1.2.3/24", "192.168.0.1/32", "10.9.9.0/31", "fd00::3/64"] {
            let network = network.parse().unwrap();
            let address = NewAddress::new(network).no_dad();
            assert_eq!(here.add_address(a, &address).unwrap(), Existing::New);
            assert_eq!(here.add_address(a, &address).unwrap(), Existing::Same, "{network}");
            let found = here.addresses(Some(a)).unwrap();
            let found = found.iter().find(|found| found.network == network).expect("it was added");
            assert!(!found.is_tentative() && found.peer.is_none(), "{found:?}");
            assert!(here.addresses(Some(b)).unwrap().iter().all(|found| found.network != network));
            assert!(here.delete_address(a, network).unwrap());
            assert!(!here.delete_address(a, network).unwrap());
        }
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn the_same_address_with_another_prefix_is_a_conflict() {
    require!(root, netns);
    in_new(|here| {
        let (a, _) = veth(here);
        here.add_address(a, &NewAddress::new("fd00::3/64".parse().unwrap()).no_dad()).unwrap();
        let error =
            here.add_address(a, &NewAddress::new("fd00::3/80".parse().unwrap()).no_dad()).unwrap_err();
        assert!(matches!(&error, Error::Conflict { existing, .. } if existing == "fd00::3/64"), "{error:?}");
        assert!(error.already_exists());
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn addresses_of_no_link_are_an_error_or_none() {
    require!(root, netns);
    in_new(|here| {
        let error = here.add_address(4711, &NewAddress::new("10.0.0.1/8".parse().unwrap())).unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
        let error = here.addresses(Some(4711)).unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_neighbour_is_set_listed_and_deleted() {
    require!(root, netns);
    in_new(|here| {
        let (a, _) = veth(here);
        for ip in ["10.1.2.9", "fd00::9"] {
            let ip = ip.parse().unwrap();
            let first = Neighbour::permanent(a, ip, MacAddress::new([2, 0, 0, 0, 0, 1]));
            let second = Neighbour::permanent(a, ip, MacAddress::new([2, 0, 0, 0, 0, 2]));
            here.set_neighbour(&first).unwrap();
            here.set_neighbour(&second).unwrap();
            let found = here.neighbours(Some(a)).unwrap();
            let found: Vec<_> = found.iter().filter(|neighbour| neighbour.ip == ip).collect();
            assert_eq!(found, [&second]);
            assert!(found[0].is_permanent());
            assert!(here.delete_neighbour(a, ip).unwrap());
            assert!(!here.delete_neighbour(a, ip).unwrap());
        }
    });
}
