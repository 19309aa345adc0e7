//! When an image has to be pulled, and how the kubelet words the outcome.
//!
//! Everything here is pure. The caller finds out whether the image is present
//! ([`Store::resolve`](crate::Store::resolve)) and acts on the [`Decision`].

use std::fmt;
use std::str::FromStr;

use crate::reference::{DEFAULT_TAG, Reference, ReferenceError, apply_default_tag};

/// `imagePullPolicy` of a container.
///
/// Images that were put into the store by [`Store::load`](crate::Store::load) or
/// [`Store::import`](crate::Store::import) are meant for `IfNotPresent` and `Never`: `Always` asks the registry
/// each time, also for an image that is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PullPolicy {
    /// Ask the registry at every start.
    Always,
    /// Pull only what is absent.
    IfNotPresent,
    /// Never pull; an absent image is an error.
    Never,
}

impl PullPolicy {
    /// Returns the name that the Pod API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is none of the three policies; the API's names are case sensitive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown image pull policy {0:?}")]
pub struct UnknownPullPolicy(pub String);

impl FromStr for PullPolicy {
    type Err = UnknownPullPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPullPolicy> {
        [Self::Always, Self::IfNotPresent, Self::Never]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| UnknownPullPolicy(text.to_owned()))
    }
}

/// Returns the policy of a container that states none, as the API server fills it in.
///
/// `Always` if the tag is `latest`, written or implied by the absence of both tag and digest; otherwise
/// `IfNotPresent`, also for a reference that cannot be parsed. A tag `latest` beside a digest still means `Always`.
///
/// ```
/// use podrun_image::{PullPolicy, default_pull_policy};
///
/// assert_eq!(default_pull_policy("busybox"), PullPolicy::Always);
/// assert_eq!(default_pull_policy("busybox:1.36"), PullPolicy::IfNotPresent);
/// ```
pub fn default_pull_policy(raw: &str) -> PullPolicy {
    match Reference::parse(raw) {
        Ok(reference) if reference.tag() == Some(DEFAULT_TAG) => PullPolicy::Always,
        _ => PullPolicy::IfNotPresent,
    }
}

/// What to do about a container's image before the container can be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decision {
    /// Use the image in the store; the registry is not contacted.
    UsePresent,
    /// Use the image in the store although the policy is `Always`: its host is `localhost` without a port, where no
    /// registry can be, so the local image is the newest there is. A kubelet would fail here; podman behaves as we do.
    UseLocalOnly,
    /// Ask the registry. With `Always` this stands also if the image is present, and an unreachable registry is then
    /// a failure (`ErrImagePull`), not a reason to fall back on the present image.
    Pull,
    /// The policy is `Never` and the image is absent: `ErrImageNeverPull`.
    NeverAndAbsent,
}

/// Decides what `policy` means for `reference`, given whether the store has the image.
pub fn decide(policy: PullPolicy, reference: &Reference, present: bool) -> Decision {
    match (policy, present) {
        (PullPolicy::Always, true) if reference.is_local_only() => Decision::UseLocalOnly,
        (PullPolicy::Always, _) | (PullPolicy::IfNotPresent, false) => Decision::Pull,
        (PullPolicy::IfNotPresent | PullPolicy::Never, true) => Decision::UsePresent,
        (PullPolicy::Never, false) => Decision::NeverAndAbsent,
    }
}

/// Parses a container's image the way a kubelet does before it looks for it.
///
/// Returns the text with the default tag, for a status, and the reference, for the store.
///
/// # Errors
///
/// The message that belongs to the waiting reason `InvalidImageName`.
pub fn image_to_pull(raw: &str) -> Result<(String, Reference), String> {
    let tagged = apply_default_tag(raw).map_err(|error| invalid_image_name(raw, &error))?;
    let reference = Reference::parse(&tagged).map_err(|error| invalid_image_name(raw, &error))?;
    Ok((tagged, reference))
}

/// Returns the message of the event `Pulled` for an image that was there.
pub fn already_present(image: &str) -> String {
    format!("Container image {image:?} already present on machine")
}

/// Returns the message of the waiting reason and event `ErrImageNeverPull`.
pub fn never_and_absent(image: &str) -> String {
    format!("Container image {image:?} is not present with pull policy of Never")
}

/// Returns the message of the waiting reason `InvalidImageName`.
pub fn invalid_image_name(raw: &str, error: &ReferenceError) -> String {
    format!("Failed to apply default image tag {raw:?}: couldn't parse image name {raw:?}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn the_default_policy_follows_the_tag_alone() {
        for (raw, policy) in [
            ("busybox", PullPolicy::Always),
            ("busybox:latest", PullPolicy::Always),
            ("busybox:1.36", PullPolicy::IfNotPresent),
            (&format!("busybox@{DIGEST}"), PullPolicy::IfNotPresent),
            (&format!("busybox:1.0@{DIGEST}"), PullPolicy::IfNotPresent),
            (&format!("busybox:latest@{DIGEST}"), PullPolicy::Always),
            ("host:5000/img", PullPolicy::Always),
            ("host:5000/img:latest1", PullPolicy::IfNotPresent),
            ("localhost/UPPER", PullPolicy::IfNotPresent),
            (" busybox", PullPolicy::IfNotPresent),
            ("", PullPolicy::IfNotPresent),
        ] {
            assert_eq!(default_pull_policy(raw), policy, "{raw}");
        }
    }

    #[test]
    fn decisions_are_the_kubelet_s_and_localhost_is_local() {
        for (policy, image, present, decision) in [
            (PullPolicy::Always, "busybox", true, Decision::Pull),
            (PullPolicy::Always, "busybox", false, Decision::Pull),
            (PullPolicy::IfNotPresent, "busybox", true, Decision::UsePresent),
            (PullPolicy::IfNotPresent, "busybox", false, Decision::Pull),
            (PullPolicy::Never, "busybox", true, Decision::UsePresent),
            (PullPolicy::Never, "busybox", false, Decision::NeverAndAbsent),
            (PullPolicy::Always, "localhost/x", true, Decision::UseLocalOnly),
            (PullPolicy::Always, "localhost/x", false, Decision::Pull),
            (PullPolicy::Always, "localhost:5000/x", true, Decision::Pull),
            (PullPolicy::IfNotPresent, "localhost/x", true, Decision::UsePresent),
            (PullPolicy::Never, "localhost/x", false, Decision::NeverAndAbsent),
        ] {
            let reference = image.parse().expect("valid");
            assert_eq!(decide(policy, &reference, present), decision, "{policy} {image} present={present}");
        }
    }

    #[test]
    fn messages_are_the_kubelet_s() {
        assert_eq!(
            image_to_pull("localhost/UPPER:1").expect_err("upper case"),
            "Failed to apply default image tag \"localhost/UPPER:1\": couldn't parse image name \
             \"localhost/UPPER:1\": invalid reference format: repository name (UPPER) must be lowercase"
        );
        assert_eq!(
            never_and_absent("localhost/absent:1"),
            "Container image \"localhost/absent:1\" is not present with pull policy of Never"
        );
        assert_eq!(already_present("x:1"), "Container image \"x:1\" already present on machine");
        let (text, reference) = image_to_pull("busybox").expect("valid");
        assert_eq!((text.as_str(), reference.path()), ("busybox:latest", "library/busybox"));
    }

    #[test]
    fn policies_are_case_sensitive() {
        assert_eq!("Never".parse(), Ok(PullPolicy::Never));
        assert_eq!("never".parse::<PullPolicy>(), Err(UnknownPullPolicy("never".to_owned())));
    }
}
