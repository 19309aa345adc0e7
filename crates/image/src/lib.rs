//! Container images on disk: references, pull policy, OCI and docker archives, a content-addressed store, safe unpacking.
