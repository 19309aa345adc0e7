//! The environment, the command line and the expanded paths of a container, as a kubelet makes them.

mod assemble;
mod expand;

pub use assemble::{Addresses, EnvFault, NodeFacts, assemble_env};
pub use expand::{Argv, SubPathFault, argv, expand, expand_probe_command, expand_sub_path};
