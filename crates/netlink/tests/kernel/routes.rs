use podrun_netlink::{Error, Existing, NewAddress, Route, RouteFilter, RouteKind};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::namespace::{in_new, veth};

#[test]
#[file_serial(kernel)]
#[serial]
fn a_default_route_needs_its_gateway_on_the_link_or_onlink() {
    require!(root, netns);
    in_new(|here| {
        let (a, _) = veth(here);
        for (gateway, address) in [("169.254.1.1", "10.1.2.3/32"), ("fe80::1", "fd00::3/128")] {
            let route = Route::default_via(gateway.parse().unwrap()).dev(a);
            here.add_address(a, &NewAddress::new(address.parse().unwrap()).no_dad()).unwrap();
            if route.destination.addr().is_ipv4() {
                let error = here.add_route(&route).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ENETUNREACH), "{error:?}");
                assert!(error.kernel().unwrap().message.is_some(), "{error:?}");
            }
            let route = route.onlink();
            assert_eq!(here.add_route(&route).unwrap(), Existing::New);
            assert_eq!(here.add_route(&route).unwrap(), Existing::Same);
            let found = here.routes(RouteFilter::new().link(a).table(Route::MAIN)).unwrap();
            let found = found.iter().find(|found| found.gateway == route.gateway).expect("it was added");
            assert_eq!((found.destination, found.link), (route.destination, Some(a)));
            assert!(here.delete_route(&route).unwrap());
            assert!(!here.delete_route(&route).unwrap());
        }
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn another_route_to_the_same_place_is_a_conflict_until_it_is_replaced() {
    require!(root, netns);
    in_new(|here| {
        let (a, b) = veth(here);
        for destination in ["10.7.0.0/16", "fd07::/32"] {
            let destination = destination.parse().unwrap();
            let (first, second) = (Route::to(destination).dev(a), Route::to(destination).dev(b).mtu(1300));
            here.add_route(&first).unwrap();
            if matches!(destination, ipnet::IpNet::V4(_)) {
                // IPv6 takes routes over two links for one with two ways.
                let error = here.add_route(&second).unwrap_err();
                assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
            }
            assert_eq!(here.add_route(&second.metric(7)).unwrap(), Existing::New);
            assert_eq!(here.add_route(&second.metric(7)).unwrap(), Existing::Same);
            here.replace_route(&second).unwrap();
            let found = here.routes(RouteFilter::new().table(Route::MAIN)).unwrap();
            let found: Vec<_> = found.iter().filter(|route| route.destination == destination).collect();
            assert!(found.iter().all(|route| route.link == Some(b) && route.mtu == Some(1300)), "{found:?}");
        }
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn routes_are_filtered_by_table_and_family() {
    require!(root, netns);
    in_new(|here| {
        let (a, _) = veth(here);
        let route = Route::to("10.8.0.0/16".parse().unwrap()).dev(a).table(1000).metric(5);
        assert!(here.routes(RouteFilter::new().table(1000)).unwrap().is_empty(), "no such table is no route");
        here.add_route(&route).unwrap();
        let hole = Route::to("fd08::/32".parse().unwrap()).table(1000).kind(RouteKind::Blackhole);
        assert_eq!(here.add_route(&hole).unwrap(), Existing::New);
        assert_eq!(here.add_route(&hole).unwrap(), Existing::Same);
        let found = here.routes(RouteFilter::new().table(1000).ipv4()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].destination, found[0].metric), (route.destination, Some(5)));
        let found = here.routes(RouteFilter::new().table(1000).ipv6()).unwrap();
        assert_eq!(found.iter().map(|route| route.kind).collect::<Vec<_>>(), [RouteKind::Blackhole]);
        assert!(here.routes(RouteFilter::new()).unwrap().iter().any(|route| route.table == 255));
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn the_route_to_an_address_is_the_one_the_kernel_would_take() {
    require!(root, netns);
    in_new(|here| {
        let (a, b) = veth(here);
        for (network, inside, outside, gateway) in [
            ("10.1.0.1/16", "10.1.9.9", "192.0.2.1", "10.1.0.254"),
            ("fd01::1/64", "fd01::9", "2001:db8::1", "fd01::fe"),
        ] {
            let (inside, outside) = (inside.parse().unwrap(), outside.parse().unwrap());
            assert!(here.route_to(outside).is_err());
            let network: ipnet::IpNet = network.parse().unwrap();
            here.add_address(a, &NewAddress::new(network).no_dad()).unwrap();
            let direct = here.route_to(inside).unwrap();
            assert_eq!((direct.link, direct.gateway), (Some(a), None));
            let gateway = gateway.parse().unwrap();
            here.add_route(&Route::default_via(gateway)).unwrap();
            let found = here.route_to(outside).unwrap();
            assert_eq!((found.link, found.gateway), (Some(a), Some(gateway)));
            assert_eq!(found.source, Some(network.addr()));
            assert_ne!(found.link, Some(b));
        }
    });
}
