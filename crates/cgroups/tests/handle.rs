//! Handles, processes and facts on the hierarchy of this machine.

mod common;

use std::os::fd::AsFd as _;

use common::{Child, TestCgroup, soon};
use podrun_cgroups::{Availability, Cgroup, Controller, Error, Hierarchy};
use podrun_testkit::require;

#[test]
fn the_hierarchy_is_found_and_opened() {
    require!(cgroup2);
    let hierarchy = Hierarchy::find().unwrap();
    let root = hierarchy.open_root().unwrap();
    assert_eq!(root.path(), hierarchy.mount);
    assert!(hierarchy.open_own().unwrap().path().starts_with(&hierarchy.mount));
}

#[test]
fn v1_mounts_are_not_taken_for_v2() {
    require!(cgroup2);
    for v1 in Hierarchy::find().unwrap().v1 {
        let error = Cgroup::open(&v1.mount).unwrap_err();
        assert!(matches!(error, Error::NotCgroup2 { .. }), "{error}");
    }
}

#[test]
fn a_process_is_where_it_was_put() {
    require!(root, cgroup2);
    let test = TestCgroup::new();
    let leaf = test.cgroup.ensure_path("a/b").unwrap();
    let child = Child::idle(&leaf);
    assert_eq!(leaf.procs().unwrap(), [child.pid()]);
    assert!(test.cgroup.procs().unwrap().is_empty());
    assert!(test.cgroup.events().unwrap().populated);
    let found = Hierarchy::find().unwrap().open_of_process(child.pid()).unwrap();
    assert_eq!(found.path(), leaf.path());
    assert_eq!(test.cgroup.stat().unwrap().descendants, 2);
}

#[test]
fn every_controller_is_accounted_for() {
    require!(root, cgroup2);
    let test = TestCgroup::new();
    let root = Hierarchy::find().unwrap().open_root().unwrap();
    let below = test.cgroup.create_child("below").unwrap();
    let offered = root.controllers().unwrap();
    for controller in Controller::ALL {
        let found = root.availability(controller).unwrap();
        assert_eq!(found.is_available(), offered.contains(controller), "{controller}: {found}");
        // What the root does not even have cannot be waiting for delegation.
        assert!(!matches!(found, Availability::NotDelegated { .. }), "{controller}: {found}");
        // Other tests enable controllers in the root at the same time, but nobody does in the test's own cgroup.
        let found = below.availability(controller).unwrap();
        let kept_by = |cgroup: &Cgroup| Availability::NotDelegated { cgroup: cgroup.path().to_owned() };
        let kept = found == kept_by(&root) || found == kept_by(&test.cgroup);
        assert_eq!(kept, offered.contains(controller), "{controller}: {found}");
    }
    for v1 in Hierarchy::find().unwrap().v1 {
        for controller in Controller::ALL.into_iter().filter(|controller| v1.holds(*controller)) {
            let bound = Availability::BoundToV1 { mount: Some(v1.mount.clone()) };
            assert_eq!(test.cgroup.availability(controller).unwrap(), bound);
        }
    }
}

#[test]
fn a_limit_without_its_controller_says_who_has_it() {
    require!(root, cgroup2);
    let test = TestCgroup::new();
    // Nobody enables controllers below the test's own cgroup.
    let child = test.cgroup.create_child("child").unwrap();
    let error = child.write("memory.max", "4096").unwrap_err();
    match &error {
        Error::ControllerMissing { controller: Controller::Memory, path, availability } => {
            assert_eq!(*path, child.path().join("memory.max"));
            assert!(!availability.is_available());
        }
        other => panic!("{other}"),
    }
}

#[test]
fn internal_processes_stop_delegation() {
    require!(root, cgroup2, controller("hugetlb"));
    let test = TestCgroup::new();
    let root = Hierarchy::find().unwrap().open_root().unwrap();
    root.enable(Controller::Hugetlb.into()).unwrap();
    let busy = test.cgroup.ensure_path_with("busy", Controller::Hugetlb.into()).unwrap();
    assert!(busy.controllers().unwrap().contains(Controller::Hugetlb));
    let mut child = Child::idle(&busy);
    let error = busy.enable(Controller::Hugetlb.into()).unwrap_err();
    assert!(matches!(error, Error::HasProcesses { .. }), "{error}");
    busy.kill().unwrap();
    busy.wait_empty(soon()).unwrap();
    assert!(child.was_killed());
    busy.enable(Controller::Hugetlb.into()).unwrap();
    assert!(busy.subtree_control().unwrap().contains(Controller::Hugetlb));
}

#[test]
fn a_handle_survives_as_a_handle_of_nothing() {
    require!(root, cgroup2);
    let test = TestCgroup::new();
    let old = test.cgroup.create_child("x").unwrap();
    assert!(old.as_fd().try_clone_to_owned().is_ok());
    test.cgroup.remove_child("x", soon()).unwrap();
    let new = test.cgroup.create_child("x").unwrap();
    assert!(old.read("cgroup.procs").unwrap_err().is_gone());
    assert!(old.write("memory.max", "1").unwrap_err().is_gone(), "not the controller's fault");
    old.remove_tree(soon()).unwrap();
    assert!(new.procs().unwrap().is_empty(), "the namesake is left alone");
}

#[test]
fn statistics_exist_without_controllers() {
    require!(root, cgroup2);
    let test = TestCgroup::new();
    let mut child = Child::in_cgroup(&test.cgroup, |_| 0);
    child.wait();
    let stats = test.cgroup.stats().unwrap();
    assert_eq!(stats.cgroup.descendants, 0);
    assert_eq!(stats.pids.is_some(), test.cgroup.controllers().unwrap().contains(Controller::Pids));
    assert_eq!(stats.cpu.usage, test.cgroup.cpu().stat().unwrap().usage);
}
