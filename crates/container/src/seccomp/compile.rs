//! From a profile to a program for the kernel's filter machine.
//!
//! The program looks a call's number up by halving, in ranges of calls that are treated alike. That matters twice: each
//! call of the container walks it, and the kernel walks it for every number when it is installed, to find those it
//! never needs to ask for again (`seccomp_cache_prepare` in `kernel/seccomp.c`). A list of comparisons as long as the
//! profile makes an installation take the better part of a millisecond.

use std::collections::BTreeMap;

use libc::{
    BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, sock_filter,
};

/// `offsetof(struct seccomp_data, …)`; the machines podrun runs on are little-endian.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
const FIRST_ARGUMENT_HIGH: u32 = 20;

/// `AUDIT_ARCH_*` of this machine.
#[cfg(target_arch = "x86_64")]
pub(super) const THIS_ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub(super) const THIS_ARCHITECTURE: u32 = 0xC000_00B7;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is made.
    Allow,
    /// It fails with this error number.
    Fail(i32),
    /// It is made if its first argument passes, otherwise it fails with `EPERM`.
    AllowIf(Check),
}

/// A look at the first argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// All 64 bits are one of these numbers.
    OneOf(&'static [u32]),
    /// The lower 32 bits, which is what the kernel looks at, are none of these numbers.
    NoneOf(&'static [u32]),
    /// None of these bits is set in the lower 32.
    NoneSet(u32),
}

/// Compiles a profile: a verdict for some calls, one for all others up to `newest`, one for those above.
pub(super) fn compile(
    calls: &BTreeMap<u32, Verdict>,
    others: Verdict,
    newest: u32,
    above: Verdict,
) -> Vec<sock_filter> {
    let ranges = ranges(calls, others, newest, above);
    let mut program = vec![
        statement(BPF_LD | BPF_W | BPF_ABS, ARCHITECTURE),
        jump(BPF_JEQ, THIS_ARCHITECTURE, 1, 0),
        // The numbers of another architecture mean other calls.
        statement(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        statement(BPF_LD | BPF_W | BPF_ABS, NUMBER),
    ];
    program.extend(search(&ranges));
    program
}

/// Returns the first number of each range of calls with the same verdict.
fn ranges(
    calls: &BTreeMap<u32, Verdict>,
    others: Verdict,
    newest: u32,
    above: Verdict,
) -> Vec<(u32, Verdict)> {
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    for number in 0..=newest {
        let verdict = calls.get(&number).copied().unwrap_or(others);
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((number, verdict));
        }
    }
    ranges.push((newest + 1, above));
    ranges
}

/// Emits a search for the range that the number in the accumulator is in.
fn search(ranges: &[(u32, Verdict)]) -> Vec<sock_filter> {
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let Some((first, verdict)) = upper.first() else { return Vec::new() };
    if lower.is_empty() {
        return leaf(*verdict);
    }
    let (lower, upper) = (search(lower), search(upper));
    // A conditional jump reaches 255 instructions, the other kind everywhere.
    let mut program = match u8::try_from(lower.len()) {
        Ok(distance) => vec![jump(BPF_JGE, *first, distance, 0)],
        Err(_) => vec![
            jump(BPF_JGE, *first, 0, 1),
            statement(BPF_JMP | BPF_JA, u32::try_from(lower.len()).unwrap_or(u32::MAX)),
        ],
    };
    program.extend(lower);
    program.extend(upper);
    program
}

fn leaf(verdict: Verdict) -> Vec<sock_filter> {
    let check = match verdict {
        Verdict::Allow => return vec![answer(None)],
        Verdict::Fail(errno) => return vec![answer(Some(errno))],
        Verdict::AllowIf(check) => check,
    };
    let load = |offset| statement(BPF_LD | BPF_W | BPF_ABS, offset);
    // Each comparison jumps to the last but one instruction if it is true.
    let compare = |numbers: &[u32]| -> Vec<sock_filter> {
        let left = (0..numbers.len()).rev();
        numbers.iter().zip(left).map(|(number, left)| jump(BPF_JEQ, *number, short(left + 1), 0)).collect()
    };
    let (allow, refuse) = (answer(None), answer(Some(libc::EPERM)));
    match check {
        Check::OneOf(numbers) => {
            let mut program = vec![load(FIRST_ARGUMENT_HIGH), jump(BPF_JEQ, 0, 0, short(numbers.len() + 1))];
            program.push(load(FIRST_ARGUMENT));
            program.extend(compare(numbers));
            program.extend([refuse, allow]);
            program
        }
        Check::NoneOf(numbers) => {
            let mut program = vec![load(FIRST_ARGUMENT)];
            program.extend(compare(numbers));
            program.extend([allow, refuse]);
            program
        }
        Check::NoneSet(bits) => vec![load(FIRST_ARGUMENT), jump(BPF_JSET, bits, 1, 0), allow, refuse],
    }
}

fn answer(errno: Option<i32>) -> sock_filter {
    let action = errno.map_or(SECCOMP_RET_ALLOW, |errno| SECCOMP_RET_ERRNO | errno.cast_unsigned());
    statement(BPF_RET | BPF_K, action)
}

/// Returns a distance within a leaf, of which none is long.
fn short(distance: usize) -> u8 {
    u8::try_from(distance).expect("a check has a few numbers")
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code16(code), jt: 0, jf: 0, k }
}

fn jump(condition: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code16(BPF_JMP | condition | BPF_K), jt, jf, k }
}

fn code16(code: u32) -> u16 {
    u16::try_from(code).expect("instructions have 16 bits")
}
