//! Names and the places that images were pulled from.

use super::index::StoreIndex;
use super::*;
use crate::manifest::OCI_MANIFEST;

fn name(text: &str) -> Reference {
    text.parse().expect("valid")
}

fn index() -> StoreIndex {
    let (_dir, store) = store();
    store.read_index().expect("an empty index")
}

#[test]
fn an_image_is_found_by_every_digest_it_was_pulled_by() {
    let (manifest, list) = (Digest::of(b"manifest"), Digest::of(b"list"));
    let mut index = index();
    index.set_name(&name("r.example/app:1"), Descriptor::new(OCI_MANIFEST, manifest, 8));
    let pinned = name(&format!("r.example/app@{list}"));
    assert_eq!(index.by_reference(&pinned), None);
    index.add_pulled(&manifest, std::slice::from_ref(&pinned));
    for (text, found) in [
        (format!("r.example/app@{list}"), true),
        (format!("r.example/app:any@{list}"), true),
        (format!("r.example/app@{manifest}"), true),
        (format!("r.example/other@{list}"), false),
        (format!("r.example/app@{}", Digest::of(b"other")), false),
    ] {
        assert_eq!(index.by_reference(&name(&text)).is_some(), found, "{text}");
    }
}

#[test]
fn where_an_image_came_from_goes_with_the_last_name_of_that_repository() {
    let (manifest, other) = (Digest::of(b"manifest"), Digest::of(b"other"));
    let from = |repository: &str| name(&format!("{repository}@{manifest}"));
    let mut index = index();
    for text in ["a.example/x:1", "a.example/x:2", "b.example/x:1"] {
        index.set_name(&name(text), Descriptor::new(OCI_MANIFEST, manifest, 8));
    }
    index.add_pulled(&manifest, &[from("b.example/x"), from("a.example/x"), from("a.example/x")]);
    assert_eq!(index.image(&manifest).pulled, [from("a.example/x"), from("b.example/x")]);
    index.remove_names(&[name("a.example/x:1")]);
    assert_eq!(index.image(&manifest).pulled.len(), 2);
    index.remove_names(&[name("a.example/x:2")]);
    assert_eq!(index.image(&manifest).pulled, [from("b.example/x")]);
    // A name that moves on with a newer image leaves the place behind.
    index.set_name(&name("b.example/x:1"), Descriptor::new(OCI_MANIFEST, other, 8));
    let old = index.image(&manifest);
    assert_eq!((old.references.len(), old.pulled), (0, vec![from("b.example/x")]));
    assert_eq!(index.image(&other).pulled, []);
    index.set_name(&name("b.example/x:2"), Descriptor::new(OCI_MANIFEST, manifest, 8));
    assert_eq!(index.image(&manifest).pulled, [from("b.example/x")]);
}
