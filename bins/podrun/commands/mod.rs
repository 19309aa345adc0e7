//! One file for each verb.

pub(crate) mod annotate;
pub(crate) mod completion;
pub(crate) mod condition;
pub(crate) mod cp;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod gc;
pub(crate) mod get;
pub(crate) mod image;
pub(crate) mod logs;
pub(crate) mod net;
pub(crate) mod plan;
pub(crate) mod port_forward;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod simulate;
pub(crate) mod top;
pub(crate) mod version;
pub(crate) mod wait;
