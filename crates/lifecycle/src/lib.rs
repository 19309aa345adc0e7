//! The Pod lifecycle of the kubelet as a pure state machine with an injected clock.
