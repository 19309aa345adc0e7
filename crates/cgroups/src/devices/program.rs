//! From rules to the instructions of a BPF program.

use super::rule::{DeviceKind, DeviceRule};

/// One BPF instruction, `struct bpf_insn` of linux/bpf.h. See
/// [the instruction set](https://docs.kernel.org/bpf/standardization/instruction-set.html).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u8,
    /// The destination register in the low half, the source register in the high half.
    pub registers: u8,
    /// Distance of a jump, or of a load.
    pub offset: i16,
    /// The constant.
    pub immediate: i32,
}

// Opcodes: a class with a size, an operation or a source.
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE_REGISTER: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const MOVE: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const JUMP_IF_NOT: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K
const JUMP_IF: u8 = 0x16; // BPF_JMP32 | BPF_JEQ | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

// Registers. The kernel passes `struct bpf_cgroup_dev_ctx` in R1 and takes the verdict from R0.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ASKED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const BLOCK: i32 = 1; // BPF_DEVCG_DEV_BLOCK
const CHAR: i32 = 2; // BPF_DEVCG_DEV_CHAR

/// Returns the program that decides as `rules` say.
///
/// The last rule counts, so the program asks the rules from the last to the first. It keeps in a register what is asked
/// for and not yet allowed: a rule that allows takes its accesses out, and when nothing is left the answer is yes. A rule
/// that denies something that is left answers no, and so does the end.
pub fn assemble(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        // access_type: the access in the high half, the kind of device in the low half.
        load_word(KIND, 0),
        with_register(MOVE_REGISTER, ASKED, KIND),
        with_constant(SHIFT_RIGHT, ASKED, 16),
        with_constant(AND, KIND, 0xffff),
        load_word(MAJOR, 4),
        load_word(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        append_rule(&mut program, rule);
    }
    program.extend(answer(false));
    program
}

fn append_rule(program: &mut Vec<Instruction>, rule: &DeviceRule) {
    let access = i32::from(rule.access.0);
    let decision = if rule.allow {
        [with_constant(AND, ASKED, !access), jump(JUMP_IF_NOT, ASKED, 0, 2)].to_vec()
    } else {
        [
            with_register(MOVE_REGISTER, VERDICT, ASKED),
            with_constant(AND, VERDICT, access),
            jump(JUMP_IF, VERDICT, 0, 2),
        ]
        .to_vec()
    };
    let kind = match rule.kind {
        DeviceKind::Any => None,
        DeviceKind::Block => Some(BLOCK),
        DeviceKind::Char => Some(CHAR),
    };
    let tests = [
        kind.map(|kind| (KIND, kind)),
        rule.major.map(|major| (MAJOR, major.cast_signed())),
        rule.minor.map(|minor| (MINOR, minor.cast_signed())),
    ];
    let mut tests_left: i16 = tests.iter().flatten().map(|_| 1).sum();
    // A test that fails jumps over the tests left, the decision and the two instructions of the answer.
    let behind = if rule.allow { 4 } else { 5 };
    for (register, value) in tests.into_iter().flatten() {
        tests_left -= 1;
        program.push(jump(JUMP_IF_NOT, register, value, tests_left + behind));
    }
    program.extend(decision);
    program.extend(answer(rule.allow));
}

fn answer(allow: bool) -> [Instruction; 2] {
    [with_constant(MOVE, VERDICT, i32::from(allow)), with_constant(EXIT, 0, 0)]
}

const fn with_constant(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: register, offset: 0, immediate }
}

const fn with_register(code: u8, to: u8, from: u8) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset: 0, immediate: 0 }
}

const fn load_word(to: u8, offset: i16) -> Instruction {
    Instruction { code: LOAD_WORD, registers: CONTEXT << 4 | to, offset, immediate: 0 }
}

const fn jump(code: u8, register: u8, immediate: i32, offset: i16) -> Instruction {
    Instruction { code, registers: register, offset, immediate }
}

#[cfg(test)]
mod tests {
    use super::super::rule::{CONTAINER_DEVICES, DeviceAccess, MKNOD_ANYTHING};
    use super::*;

    /// Runs the program as the kernel would.
    fn run(program: &[Instruction], context: [u32; 3]) -> bool {
        let mut registers = [0_u32; 11];
        let mut at = 0_usize;
        for _ in 0..10_000 {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (to, from) = (usize::from(pair & 0xf), usize::from(pair >> 4));
            let constant = immediate.cast_unsigned();
            let jump = match code {
                LOAD_WORD => {
                    assert_eq!(from, usize::from(CONTEXT));
                    registers[to] = context[usize::try_from(offset).unwrap() / 4];
                    false
                }
                MOVE_REGISTER => {
                    registers[to] = registers[from];
                    false
                }
                MOVE => {
                    registers[to] = constant;
                    false
                }
                AND => {
                    registers[to] &= constant;
                    false
                }
                SHIFT_RIGHT => {
                    registers[to] >>= constant;
                    false
                }
                JUMP_IF_NOT => registers[to] != constant,
                JUMP_IF => registers[to] == constant,
                EXIT => return registers[0] != 0,
                other => panic!("instruction {other:#x}"),
            };
            at += 1;
            if jump {
                at += usize::try_from(offset).unwrap();
            }
        }
        panic!("the program does not end");
    }

    /// What the documentation of [`DeviceRule`] says, without a program.
    fn decide(rules: &[DeviceRule], kind: DeviceKind, major: u32, minor: u32, access: DeviceAccess) -> bool {
        [DeviceAccess::READ, DeviceAccess::WRITE, DeviceAccess::MKNOD]
            .into_iter()
            .filter(|single| access.contains(*single))
            .all(|single| {
                let about = |rule: &&DeviceRule| {
                    (rule.kind == DeviceKind::Any || rule.kind == kind)
                        && rule.major.is_none_or(|number| number == major)
                        && rule.minor.is_none_or(|number| number == minor)
                        && rule.access.contains(single)
                };
                rules.iter().rev().find(about).is_some_and(|rule| rule.allow)
            })
    }

    fn ask(program: &[Instruction], kind: DeviceKind, major: u32, minor: u32, access: DeviceAccess) -> bool {
        let kind = if kind == DeviceKind::Block { BLOCK } else { CHAR };
        run(program, [u32::from(access.0) << 16 | kind.cast_unsigned(), major, minor])
    }

    #[test]
    fn container_devices() {
        use DeviceKind::{Block, Char};
        let (read, all) = (DeviceAccess::READ, DeviceAccess::ALL);
        let program = assemble(&CONTAINER_DEVICES);
        for (kind, major, minor, access, allowed) in [
            (Char, 1, 3, all, true),
            (Char, 1, 9, read, true),
            (Char, 136, 77, all, true),
            (Char, 1, 1, read, false),
            (Char, 10, 229, read, false),
            (Block, 1, 3, read, false),
            (Block, 8, 0, DeviceAccess::MKNOD, false),
            (Char, 10, 200, DeviceAccess::MKNOD, false),
        ] {
            assert_eq!(
                ask(&program, kind, major, minor, access),
                allowed,
                "{kind:?} {major}:{minor} {access}"
            );
        }
        let with_mknod: Vec<DeviceRule> = CONTAINER_DEVICES.into_iter().chain([MKNOD_ANYTHING]).collect();
        let program = assemble(&with_mknod);
        assert!(ask(&program, Block, 8, 0, DeviceAccess::MKNOD));
        assert!(!ask(&program, Block, 8, 0, DeviceAccess::MKNOD.union(read)));
    }

    #[test]
    fn no_rules_allow_nothing() {
        assert!(!ask(&assemble(&[]), DeviceKind::Char, 1, 3, DeviceAccess::READ));
    }

    #[test]
    fn programs_decide_as_rules_do() {
        let rule = |kind, major, minor, access, allow| DeviceRule {
            kind,
            major,
            minor,
            access: DeviceAccess(access),
            allow,
        };
        let pool = [
            rule(DeviceKind::Any, None, None, 7, true),
            rule(DeviceKind::Char, Some(1), None, 6, true),
            rule(DeviceKind::Char, Some(1), Some(3), 4, false),
            rule(DeviceKind::Block, None, Some(3), 3, false),
            rule(DeviceKind::Any, Some(u32::MAX), None, 2, true),
            rule(DeviceKind::Char, None, None, 0, true),
        ];
        // Every ordered choice of three rules, every access to a handful of devices.
        let triples = (0..pool.len().pow(3)).map(|n| [n % 6, n / 6 % 6, n / 36].map(|index| pool[index]));
        for rules in triples {
            let program = assemble(&rules);
            for kind in [DeviceKind::Block, DeviceKind::Char] {
                for (major, minor) in [(1, 3), (1, 4), (8, 3), (u32::MAX, 0)] {
                    for access in (1..=7).map(DeviceAccess) {
                        assert_eq!(
                            ask(&program, kind, major, minor, access),
                            decide(&rules, kind, major, minor, access),
                            "{kind:?} {major}:{minor} {access} by {rules:?}"
                        );
                    }
                }
            }
        }
    }
}
