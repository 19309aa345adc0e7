//! Carries the Pod lifecycle out: one supervisor per Pod, state on disk, a socket to ask it.
