//! The default system call filter (`RuntimeDefault`).
//!
//! Two filters are stacked, because one has a single answer for what it refuses. The first allows what [the
//! table](table) lists and answers `EPERM`. The second, installed later and so asked first, answers `ENOSYS` to calls
//! that are newer than the table, and to `clone3`, whose flags lie in memory where no filter can see them. Of two
//! refusals the kernel takes that of the filter installed last (`seccomp_run_filters` in `kernel/seccomp.c`).

mod table;

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use table::cap;

use crate::sys;

/// Compiled filters, to be installed in a process of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    programs: [BpfProgram; 2],
}

/// Filters that have been compiled, by the capabilities they were made for: a Pod's containers mostly have the same.
#[derive(Debug, Default)]
pub struct FilterCache {
    filters: Vec<(u64, Filter)>,
}

impl FilterCache {
    /// Returns the filter for a process with these capabilities.
    ///
    /// # Errors
    ///
    /// The compiler's words, should the profile not fit its limits.
    pub fn filter(&mut self, capabilities: u64) -> Result<&Filter, String> {
        let known = self.filters.iter().position(|(mask, _)| *mask == capabilities);
        let index = match known {
            Some(index) => index,
            None => {
                self.filters.push((capabilities, Filter::compile(capabilities)?));
                self.filters.len() - 1
            }
        };
        Ok(&self.filters[index].1)
    }
}

impl Filter {
    /// Compiles the default profile for a process with these capabilities.
    ///
    /// # Errors
    ///
    /// The compiler's words, should the profile not fit its limits.
    pub fn compile(capabilities: u64) -> Result<Self, String> {
        let allow = allow_list(capabilities).map_err(|error| error.to_string())?;
        let filter = SeccompFilter::new(
            allow,
            SeccompAction::Errno(libc::EPERM.cast_unsigned()),
            SeccompAction::Allow,
            ARCH,
        );
        let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(|error| error.to_string())?;
        Ok(Self { programs: [program, unknown_calls(has(capabilities, cap::SYS_ADMIN))] })
    }

    /// Installs the filters for the calling thread, for good. It needs `CAP_SYS_ADMIN` or `no_new_privs`.
    ///
    /// # Errors
    ///
    /// `EACCES` without either; `EINVAL` if the kernel has no filters.
    pub(crate) fn install(&self) -> std::io::Result<()> {
        self.programs.iter().try_for_each(|program| sys::install_filter(program))
    }
}

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

const fn has(capabilities: u64, capability: u8) -> bool {
    capabilities >> capability & 1 == 1
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn allow_list(capabilities: u64) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    let always = [table::ALLOWED, table::ALLOWED_NEW, table::ALLOWED_HERE, table::ALLOWED_BY_KERNEL];
    rules.extend(always.iter().flat_map(|calls| calls.iter()).map(|call| (*call, Vec::new())));

    let equals = |value| condition(0, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value);
    let personalities: Result<_, _> =
        table::PERSONALITIES.iter().map(|value| SeccompRule::new(vec![equals(*value)?])).collect();
    rules.insert(libc::SYS_personality, personalities?);

    let families: Result<_, _> = table::REFUSED_FAMILIES
        .iter()
        .map(|family| {
            // The kernel looks at 32 bits of it, and so does the filter.
            condition(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(family.cast_unsigned()))
        })
        .collect();
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(families?)?]);

    let no_namespace = SeccompCmpOp::MaskedEq(table::CLONE_NAMESPACES);
    let clone = condition(0, SeccompCmpArgLen::Qword, no_namespace, 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![clone])?]);

    for (capability, calls) in table::WITH_CAPABILITY {
        if has(capabilities, *capability) {
            // Without conditions, also where there were some.
            rules.extend(calls.iter().map(|call| (*call, Vec::new())));
        }
    }
    Ok(rules)
}

fn condition(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, length, operator, value)
}

/// Assembles the second filter. Calls of other architectures are left to the first one, which kills.
fn unknown_calls(allow_clone3: bool) -> BpfProgram {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const IF_ABOVE: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
    const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const NUMBER: u32 = 0; // offsetof(struct seccomp_data, nr)
    let statement = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    let jump = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    let clone3 = if allow_clone3 { u32::MAX } else { clone3 };
    vec![
        statement(LOAD, NUMBER),
        // x32 calls have bit 30 set and are above as well.
        jump(IF_ABOVE, table::NEWEST, 1, 0),
        jump(IF_EQUAL, clone3, 0, 1),
        statement(RETURN, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
        statement(RETURN, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for the kernel: runs a filter on the calls of this machine.
    fn run(program: &BpfProgram, number: c_long, arguments: [u64; 6]) -> u32 {
        let mut data = [0_u32; 16];
        data[0] = u32::try_from(number).expect("a number");
        data[1] = if cfg!(target_arch = "x86_64") { 0xC000_003E } else { 0xC000_00B7 };
        for (index, argument) in arguments.iter().enumerate() {
            data[4 + 2 * index] = u32::try_from(argument & 0xffff_ffff).expect("32 bits");
            data[5 + 2 * index] = u32::try_from(argument >> 32).expect("32 bits");
        }
        let (mut at, mut register) = (0_usize, 0_u32);
        loop {
            let instruction = &program[at];
            let skip = |jump: bool| usize::from(if jump { instruction.jt } else { instruction.jf });
            at += 1;
            match instruction.code {
                0x20 => register = data[usize::try_from(instruction.k).expect("an offset") / 4],
                0x54 => register &= instruction.k,
                0x05 => at += usize::try_from(instruction.k).expect("a distance"),
                0x15 => at += skip(register == instruction.k),
                0x25 => at += skip(register > instruction.k),
                0x35 => at += skip(register >= instruction.k),
                0x06 => return instruction.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn verdict(capabilities: u64, number: c_long, arguments: [u64; 6]) -> &'static str {
        let filter = Filter::compile(capabilities).expect("it compiles");
        let name = |action| match action {
            libc::SECCOMP_RET_ALLOW => "allow",
            action if action == libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned() => "EPERM",
            action if action == libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned() => "ENOSYS",
            _ => "kill",
        };
        // The later filter wins among equals.
        let [first, second] = filter.programs.map(|program| name(run(&program, number, arguments)));
        if second == "allow" { first } else { second }
    }

    #[test]
    fn the_profile_answers_as_containerd_does() {
        const ADMIN: u64 = 1 << cap::SYS_ADMIN;
        let family = |family: i32| [u64::try_from(family).expect("positive"), 1, 0, 0, 0, 0];
        let first = |value| [value, 0, 0, 0, 0, 0];
        let none = [0; 6];
        let table: &[(u64, c_long, [u64; 6], &str)] = &[
            (0, libc::SYS_read, none, "allow"),
            (0, libc::SYS_execve, none, "allow"),
            (0, libc::SYS_mount, none, "EPERM"),
            (ADMIN, libc::SYS_mount, none, "allow"),
            (0, libc::SYS_unshare, none, "EPERM"),
            (0, libc::SYS_setns, none, "EPERM"),
            (0, libc::SYS_keyctl, none, "EPERM"),
            (ADMIN, libc::SYS_keyctl, none, "EPERM"),
            (0, libc::SYS_bpf, none, "EPERM"),
            (1 << cap::BPF, libc::SYS_bpf, none, "allow"),
            (0, libc::SYS_perf_event_open, none, "EPERM"),
            (ADMIN, libc::SYS_io_uring_setup, none, "EPERM"),
            (0, libc::SYS_userfaultfd, none, "EPERM"),
            (0, libc::SYS_kexec_load, none, "EPERM"),
            (0, libc::SYS_init_module, none, "EPERM"),
            (0, libc::SYS_chroot, none, "EPERM"),
            (1 << cap::SYS_CHROOT, libc::SYS_chroot, none, "allow"),
            (0, libc::SYS_clone3, none, "ENOSYS"),
            (ADMIN, libc::SYS_clone3, none, "allow"),
            (0, libc::SYS_clone, first(0x0120_0011), "allow"),
            (0, libc::SYS_clone, first(0x1000_0011), "EPERM"),
            (0, libc::SYS_clone, first(0x4000_0000), "EPERM"),
            (ADMIN, libc::SYS_clone, first(0x1000_0011), "allow"),
            (0, libc::SYS_socket, family(libc::AF_INET), "allow"),
            (0, libc::SYS_socket, family(libc::AF_UNIX), "allow"),
            (0, libc::SYS_socket, family(libc::AF_ALG), "EPERM"),
            (0, libc::SYS_socket, family(libc::AF_VSOCK), "EPERM"),
            (0, libc::SYS_socket, first(0x1_0000_0026), "EPERM"),
            (0, libc::SYS_personality, first(0), "allow"),
            (0, libc::SYS_personality, first(0x0040_0000), "EPERM"),
            (0, c_long::from(table::NEWEST), none, "EPERM"),
            (0, c_long::from(table::NEWEST) + 1, none, "ENOSYS"),
            (0, 0x4000_0000, none, "ENOSYS"),
        ];
        for (capabilities, number, arguments, expected) in table {
            assert_eq!(verdict(*capabilities, *number, *arguments), *expected, "{number} {arguments:?}");
        }
    }

    #[test]
    fn a_filter_is_compiled_once_for_the_same_capabilities() {
        let mut cache = FilterCache::default();
        let first = cache.filter(1).expect("it compiles").clone();
        assert_eq!(*cache.filter(1).expect("it compiles"), first);
        cache.filter(1 << cap::SYS_ADMIN).expect("it compiles");
        assert_eq!(cache.filters.len(), 2);
    }

    #[test]
    fn the_kernel_takes_the_filters() {
        podrun_testkit::child::run(|| {
            nix::sys::prctl::set_no_new_privs().expect("prctl");
            Filter::compile(0).expect("it compiles").install().expect("it installs");
            let errno = |number: c_long, first: c_long| {
                // SAFETY: the calls are refused before they look at any pointer, all of which are null.
                let result = unsafe { libc::syscall(number, first, 0, 0, 0, 0, 0) };
                if result < 0 { nix::errno::Errno::last_raw() } else { 0 }
            };
            assert_eq!(errno(libc::SYS_getpid, 0), 0);
            assert_eq!(errno(libc::SYS_unshare, c_long::from(libc::CLONE_NEWUTS)), libc::EPERM);
            assert_eq!(errno(libc::SYS_clone3, 0), libc::ENOSYS);
            assert_eq!(errno(libc::SYS_socket, c_long::from(libc::AF_ALG)), libc::EPERM);
            assert_eq!(errno(c_long::from(table::NEWEST) + 100, 0), libc::ENOSYS);
        });
    }
}
