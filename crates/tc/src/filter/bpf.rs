//! Matching by a program.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use podrun_netlink::{Attributes, Body, Malformed};

use super::{Classifier, Filter, Options, action};
use crate::handle::Handle;

// enum in include/uapi/linux/pkt_cls.h
const TCA_BPF_ACT: u16 = 1;
const TCA_BPF_CLASSID: u16 = 3;
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// `TCA_BPF_FLAG_ACT_DIRECT`
const ACT_DIRECT: u32 = 1;
/// `BPF_RET | BPF_K`
const RETURN: u16 = 6;

/// Matches packets by a program.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Bpf {
    /// A classic program, of `struct sock_filter`s: 0 is no match, `u32::MAX` the filter's class, else a class.
    Classic(Vec<Instruction>),
    /// A program of type `BPF_PROG_TYPE_SCHED_CLS`, which is already loaded.
    Program {
        /// The descriptor of the program.
        program: Arc<OwnedFd>,
        /// What it is called in lists.
        name: String,
        /// Whether what it returns is a verdict (`TC_ACT_*`), not a class.
        direct: bool,
    },
    /// A program as it was found.
    Loaded {
        /// The kernel's number of the program.
        id: u32,
        /// What it is called.
        name: String,
        /// Whether what it returns is a verdict.
        direct: bool,
    },
}

/// An instruction of a classic program: `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How far to jump if it is true.
    pub jump_true: u8,
    /// How far to jump if it is false.
    pub jump_false: u8,
    /// The operand.
    pub operand: u32,
}

impl Bpf {
    /// Matches every packet.
    pub fn all() -> Self {
        Self::Classic(vec![Instruction { code: RETURN, jump_true: 0, jump_false: 0, operand: u32::MAX }])
    }

    /// Whether every packet matches, as far as can be told.
    pub fn matches_all(&self) -> bool {
        *self == Self::all()
    }

    pub(super) fn write(&self, filter: &Filter, options: &mut Body) {
        filter.write_verdict(TCA_BPF_CLASSID, TCA_BPF_ACT, options);
        match self {
            Self::Classic(instructions) => {
                let count = u16::try_from(instructions.len()).unwrap_or(u16::MAX);
                let mut bytes = Vec::new();
                for instruction in instructions {
                    bytes.extend_from_slice(&instruction.code.to_ne_bytes());
                    bytes.extend_from_slice(&[instruction.jump_true, instruction.jump_false]);
                    bytes.extend_from_slice(&instruction.operand.to_ne_bytes());
                }
                options.u16(TCA_BPF_OPS_LEN, count).bytes(TCA_BPF_OPS, &bytes);
            }
            Self::Program { program, name, direct } => {
                options.i32(TCA_BPF_FD, program.as_raw_fd()).text(TCA_BPF_NAME, name);
                if *direct {
                    options.u32(TCA_BPF_FLAGS, ACT_DIRECT);
                }
            }
            Self::Loaded { .. } => {}
        }
    }

    pub(super) fn read(attributes: Attributes<'_>) -> Result<Options, Malformed> {
        let (mut class, mut actions, mut classic) = (None, <_>::default(), None);
        let (mut id, mut name, mut direct) = (0, String::new(), false);
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind() {
                TCA_BPF_CLASSID => class = Some(Handle::from_raw(attribute.u32()?)),
                TCA_BPF_ACT => actions = action::read(attribute.nested())?,
                TCA_BPF_OPS => {
                    let instructions = attribute.payload().chunks_exact(8).map(|bytes| Instruction {
                        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
                        jump_true: bytes[2],
                        jump_false: bytes[3],
                        operand: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
                    });
                    classic = Some(instructions.collect());
                }
                TCA_BPF_ID => id = attribute.u32()?,
                TCA_BPF_NAME => name = attribute.text(),
                TCA_BPF_FLAGS => direct = attribute.u32()? & ACT_DIRECT != 0,
                _ => {}
            }
        }
        let bpf = classic.map_or(Self::Loaded { id, name, direct }, Self::Classic);
        Ok(Options { classifier: Classifier::Bpf(bpf), class, actions })
    }
}

/// A program that was loaded is the one with its name: the kernel tells no more of it.
impl PartialEq for Bpf {
    fn eq(&self, other: &Self) -> bool {
        let loaded = |bpf: &Self| match bpf {
            Self::Classic(_) => None,
            Self::Program { name, direct, .. } | Self::Loaded { name, direct, .. } => {
                Some((name.clone(), *direct))
            }
        };
        match (self, other) {
            (Self::Classic(one), Self::Classic(other)) => one == other,
            _ => loaded(self).is_some() && loaded(self) == loaded(other),
        }
    }
}

impl fmt::Display for Bpf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classic(_) if self.matches_all() => f.pad("all"),
            Self::Classic(instructions) => write!(f, "a program of {} instructions", instructions.len()),
            Self::Program { name, .. } | Self::Loaded { name, .. } => write!(f, "program {name}"),
        }
    }
}
