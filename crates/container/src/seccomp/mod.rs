//! The default system call filter (`RuntimeDefault`).
//!
//! It allows what the table in `table.rs` lists. Other calls that the table knows fail with `EPERM`. Calls that are
//! newer than the table fail with `ENOSYS`, so that C libraries fall back to older ones, and so does `clone3`, whose
//! flags lie in memory where no filter can see them.

mod compile;
mod table;

use std::collections::BTreeMap;
use std::fmt;

use compile::{Check, Verdict, compile};
use libc::{c_long, sock_filter};

use crate::sys;

/// A compiled filter, to be installed in a process of its own.
#[derive(Clone)]
pub struct Filter {
    program: Vec<sock_filter>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").field("instructions", &self.program.len()).finish()
    }
}

/// Filters that have been compiled, by the capabilities they were made for: a Pod's containers mostly have the same.
#[derive(Debug, Default)]
pub struct FilterCache {
    filters: Vec<(u64, Filter)>,
}

impl FilterCache {
    /// Returns the filter for a process with these capabilities.
    pub fn filter(&mut self, capabilities: u64) -> &Filter {
        let known = self.filters.iter().position(|(mask, _)| *mask == capabilities);
        let index = known.unwrap_or_else(|| {
            self.filters.push((capabilities, Filter::compile(capabilities)));
            self.filters.len() - 1
        });
        &self.filters[index].1
    }
}

impl Filter {
    /// Compiles the default profile for a process with these capabilities.
    pub fn compile(capabilities: u64) -> Self {
        let (others, above) = (Verdict::Fail(libc::EPERM), Verdict::Fail(libc::ENOSYS));
        Self { program: compile(&verdicts(capabilities), others, table::NEWEST, above) }
    }

    /// Installs the filter for the calling thread, for good. It needs `CAP_SYS_ADMIN` or `no_new_privs`.
    ///
    /// # Errors
    ///
    /// `EACCES` without either; `EINVAL` if the kernel has no filters.
    pub(crate) fn install(&self) -> std::io::Result<()> {
        sys::install_filter(&self.program)
    }
}

const fn has(capabilities: u64, capability: u8) -> bool {
    capabilities >> capability & 1 == 1
}

/// Returns what is decided about single calls.
fn verdicts(capabilities: u64) -> BTreeMap<u32, Verdict> {
    let number = |call: c_long| u32::try_from(call).expect("numbers of calls are not negative");
    let mut verdicts = BTreeMap::new();
    for calls in [table::ALLOWED, table::ALLOWED_NEW, table::ALLOWED_HERE, table::ALLOWED_BY_KERNEL] {
        verdicts.extend(calls.iter().map(|call| (number(*call), Verdict::Allow)));
    }
    verdicts.extend([
        (number(libc::SYS_personality), Verdict::AllowIf(Check::OneOf(&table::PERSONALITIES))),
        (number(libc::SYS_socket), Verdict::AllowIf(Check::NoneOf(&table::REFUSED_FAMILIES))),
        (number(libc::SYS_clone), Verdict::AllowIf(Check::NoneSet(table::CLONE_NAMESPACES))),
        (number(libc::SYS_clone3), Verdict::Fail(libc::ENOSYS)),
    ]);
    for (_, calls) in table::WITH_CAPABILITY.iter().filter(|(needed, _)| has(capabilities, *needed)) {
        // Without conditions, also where there were some.
        verdicts.extend(calls.iter().map(|call| (number(*call), Verdict::Allow)));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::table::cap;
    use super::*;

    /// A stand-in for the kernel: runs a filter on the calls of this machine.
    fn run(program: &[sock_filter], number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = [0_u32; 16];
        data[0] = number;
        data[1] = compile::THIS_ARCHITECTURE;
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
                0x05 => at += usize::try_from(instruction.k).expect("a distance"),
                0x15 => at += skip(register == instruction.k),
                0x35 => at += skip(register >= instruction.k),
                0x45 => at += skip(register & instruction.k != 0),
                0x06 => return instruction.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn verdict(capabilities: u64, number: c_long, arguments: [u64; 6]) -> &'static str {
        let filter = Filter::compile(capabilities);
        match run(&filter.program, u32::try_from(number).expect("a number"), arguments) {
            libc::SECCOMP_RET_ALLOW => "allow",
            action if action == libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned() => "EPERM",
            action if action == libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned() => "ENOSYS",
            _ => "kill",
        }
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
            (0, libc::SYS_personality, first(0x0002_0008), "allow"),
            (0, libc::SYS_personality, first(0xffff_ffff), "allow"),
            (0, libc::SYS_personality, first(0x1_0000_0000), "EPERM"),
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
    fn every_number_gets_the_verdict_of_the_table() {
        for capabilities in [0, u64::MAX] {
            let (filter, verdicts) = (Filter::compile(capabilities), verdicts(capabilities));
            for number in 0..2000 {
                let action = run(&filter.program, number, [0; 6]);
                let expected = match verdicts.get(&number) {
                    // The conditions there are pass for 0.
                    Some(Verdict::Allow | Verdict::AllowIf(_)) => libc::SECCOMP_RET_ALLOW,
                    Some(Verdict::Fail(errno)) => libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(),
                    None if number > table::NEWEST => libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned(),
                    None => libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned(),
                };
                assert_eq!(action, expected, "call {number}");
            }
            assert!(filter.program.len() < 500, "{filter:?}");
        }
    }

    #[test]
    fn another_architecture_is_killed() {
        let program = Filter::compile(u64::MAX).program;
        let last = program[2].k;
        assert_eq!((program[1].k, last), (compile::THIS_ARCHITECTURE, libc::SECCOMP_RET_KILL_PROCESS));
    }

    #[test]
    fn a_filter_is_compiled_once_for_the_same_capabilities() {
        let mut cache = FilterCache::default();
        for capabilities in [1, 1, 1 << cap::SYS_ADMIN, 1] {
            cache.filter(capabilities);
        }
        assert_eq!(cache.filters.len(), 2);
    }

    #[test]
    fn the_kernel_takes_the_filter() {
        podrun_testkit::child::run(|| {
            nix::sys::prctl::set_no_new_privs().expect("prctl");
            Filter::compile(0).install().expect("it installs");
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
