//! The default profile as data: which system calls a container may make.
//!
//! The list is that of containerd's default profile (`contrib/seccomp/seccomp_default.go`, v2), for the two
//! architectures podrun runs on. What is not listed fails with `EPERM`.

use libc::c_long;

/// Highest system call number whose place in the profile has been decided (`open_tree_attr`, Linux 6.15). Newer calls
/// answer `ENOSYS`, so that C libraries fall back to older ones instead of reporting `EPERM`.
pub(super) const NEWEST: u32 = 467;

/// Numbers that the libc crate does not name on every target. From 424 on they are the same for all architectures.
const CACHESTAT: c_long = 451;
const FCHMODAT2: c_long = 452;
const MAP_SHADOW_STACK: c_long = 453;
const FUTEX_WAKE: c_long = 454;
const FUTEX_WAIT: c_long = 455;
const FUTEX_REQUEUE: c_long = 456;
const MSEAL: c_long = 462;
const SETXATTRAT: c_long = 463;
const GETXATTRAT: c_long = 464;
const LISTXATTRAT: c_long = 465;
const REMOVEXATTRAT: c_long = 466;
const EPOLL_PWAIT2: c_long = 441;
const PROCESS_MRELEASE: c_long = 448;
const FUTEX_WAITV: c_long = 449;
const SET_MEMPOLICY_HOME_NODE: c_long = 450;
const MEMFD_SECRET: c_long = 447;
const QUOTACTL_FD: c_long = 443;
const PROCESS_MADVISE: c_long = 440;
const LANDLOCK_CREATE_RULESET: c_long = 444;
const LANDLOCK_ADD_RULE: c_long = 445;
const LANDLOCK_RESTRICT_SELF: c_long = 446;
#[cfg(target_arch = "x86_64")]
const IO_PGETEVENTS: c_long = 333;
#[cfg(target_arch = "aarch64")]
const IO_PGETEVENTS: c_long = 292;
/// `uretprobe`, which the kernel itself makes a traced function call.
#[cfg(target_arch = "x86_64")]
const URETPROBE: c_long = 335;

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// Allowed whatever the arguments are.
pub(super) const ALLOWED: &[c_long] = calls! {
    SYS_accept SYS_accept4 SYS_adjtimex SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_clock_adjtime
    SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_close SYS_close_range SYS_connect
    SYS_copy_file_range SYS_dup SYS_dup3 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_eventfd2 SYS_execve
    SYS_execveat SYS_exit SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fallocate
    SYS_fanotify_mark SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl SYS_fdatasync
    SYS_fgetxattr SYS_flistxattr SYS_flock SYS_fremovexattr SYS_fsetxattr SYS_fstat SYS_fstatfs SYS_fsync
    SYS_ftruncate SYS_futex SYS_get_robust_list SYS_getcpu SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid
    SYS_getgid SYS_getgroups SYS_getitimer SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority
    SYS_getrandom SYS_getresgid SYS_getresuid SYS_getrlimit SYS_getrusage SYS_getsid SYS_getsockname
    SYS_getsockopt SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr SYS_inotify_add_watch SYS_inotify_init1
    SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy SYS_io_getevents SYS_io_setup
    SYS_io_submit SYS_ioctl SYS_ioprio_get SYS_ioprio_set SYS_kill SYS_lgetxattr SYS_linkat SYS_listen
    SYS_listxattr SYS_llistxattr SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise SYS_membarrier
    SYS_memfd_create SYS_mincore SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap SYS_mprotect
    SYS_mq_getsetattr SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap
    SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd SYS_msync SYS_munlock SYS_munlockall SYS_munmap
    SYS_name_to_handle_at SYS_nanosleep SYS_newfstatat SYS_openat SYS_openat2 SYS_pidfd_open
    SYS_pidfd_send_signal SYS_pipe2 SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_ppoll SYS_prctl
    SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64 SYS_process_vm_readv SYS_process_vm_writev SYS_pselect6
    SYS_ptrace SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read SYS_readahead SYS_readlinkat SYS_readv
    SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_remap_file_pages SYS_removexattr SYS_renameat2
    SYS_restart_syscall SYS_rseq SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo
    SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam
    SYS_sched_getscheduler SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr
    SYS_sched_setparam SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget SYS_semop
    SYS_semtimedop SYS_sendfile SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_set_robust_list SYS_set_tid_address
    SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_setitimer SYS_setpgid SYS_setpriority SYS_setregid
    SYS_setresgid SYS_setresuid SYS_setreuid SYS_setrlimit SYS_setsid SYS_setsockopt SYS_setuid SYS_setxattr
    SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget SYS_shutdown SYS_sigaltstack SYS_signalfd4 SYS_socketpair
    SYS_splice SYS_statfs SYS_statx SYS_symlinkat SYS_sync SYS_sync_file_range SYS_syncfs SYS_sysinfo SYS_tee
    SYS_tgkill SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime
    SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate SYS_umask
    SYS_uname SYS_unlinkat SYS_utimensat SYS_vmsplice SYS_wait4 SYS_waitid SYS_write SYS_writev
};

/// Allowed too, by number.
pub(super) const ALLOWED_NEW: &[c_long] = &[
    IO_PGETEVENTS,
    CACHESTAT,
    FCHMODAT2,
    MAP_SHADOW_STACK,
    FUTEX_WAKE,
    FUTEX_WAIT,
    FUTEX_REQUEUE,
    MSEAL,
    SETXATTRAT,
    GETXATTRAT,
    LISTXATTRAT,
    REMOVEXATTRAT,
    EPOLL_PWAIT2,
    PROCESS_MRELEASE,
    FUTEX_WAITV,
    MEMFD_SECRET,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_ADD_RULE,
    LANDLOCK_RESTRICT_SELF,
];

/// Calls of one architecture: on x86-64 those that newer ones have replaced.
#[cfg(target_arch = "x86_64")]
pub(super) const ALLOWED_HERE: &[c_long] = calls! {
    SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create
    SYS_epoll_ctl_old SYS_epoll_wait SYS_epoll_wait_old SYS_eventfd SYS_fork SYS_futimesat SYS_get_thread_area
    SYS_getdents SYS_getpgrp SYS_inotify_init SYS_lchown SYS_link SYS_lstat SYS_mkdir SYS_mknod SYS_modify_ldt
    SYS_open SYS_pause SYS_pipe SYS_poll SYS_readlink SYS_rename SYS_renameat SYS_rmdir SYS_select
    SYS_set_thread_area SYS_signalfd SYS_stat SYS_symlink SYS_time SYS_unlink SYS_utime SYS_utimes SYS_vfork
};
/// Calls of one architecture.
#[cfg(target_arch = "aarch64")]
pub(super) const ALLOWED_HERE: &[c_long] = calls! { SYS_renameat };

/// One more of x86-64.
#[cfg(target_arch = "x86_64")]
pub(super) const ALLOWED_BY_KERNEL: &[c_long] = &[URETPROBE];
/// None on arm64.
#[cfg(target_arch = "aarch64")]
pub(super) const ALLOWED_BY_KERNEL: &[c_long] = &[];

/// Execution domains that `personality(2)` may be asked for; the last one asks for nothing.
pub(super) const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Namespace flags of `clone(2)`, which need `CAP_SYS_ADMIN`: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
pub(super) const CLONE_NAMESPACES: u32 = 0x7E02_0000;

/// Address families that `socket(2)` refuses: the kernel's crypto interface, a large surface that nobody needs, and
/// sockets to the hypervisor, which no namespace separates.
pub(super) const REFUSED_FAMILIES: [u32; 2] = [libc::AF_ALG.cast_unsigned(), libc::AF_VSOCK.cast_unsigned()];

/// Capability numbers of `linux/capability.h`.
pub(super) mod cap {
    pub(crate) const DAC_READ_SEARCH: u8 = 2;
    pub(crate) const SYS_MODULE: u8 = 16;
    pub(crate) const SYS_RAWIO: u8 = 17;
    pub(crate) const SYS_CHROOT: u8 = 18;
    pub(crate) const SYS_PTRACE: u8 = 19;
    pub(crate) const SYS_PACCT: u8 = 20;
    pub(crate) const SYS_ADMIN: u8 = 21;
    pub(crate) const SYS_BOOT: u8 = 22;
    pub(crate) const SYS_NICE: u8 = 23;
    pub(crate) const SYS_TIME: u8 = 25;
    pub(crate) const SYS_TTY_CONFIG: u8 = 26;
    pub(crate) const SYSLOG: u8 = 34;
    pub(crate) const PERFMON: u8 = 38;
    pub(crate) const BPF: u8 = 39;
}

/// Allowed to containers that have the capability; the kernel then checks it.
pub(super) const WITH_CAPABILITY: &[(u8, &[c_long])] = &[
    (cap::DAC_READ_SEARCH, calls! { SYS_open_by_handle_at }),
    (
        cap::SYS_ADMIN,
        calls! {
            SYS_bpf SYS_clone SYS_clone3 SYS_fanotify_init SYS_fsconfig SYS_fsmount SYS_fsopen SYS_fspick
            SYS_lookup_dcookie SYS_mount SYS_mount_setattr SYS_move_mount SYS_open_tree SYS_perf_event_open
            SYS_quotactl SYS_setdomainname SYS_sethostname SYS_setns SYS_syslog SYS_umount2 SYS_unshare
        },
    ),
    (cap::SYS_ADMIN, &[QUOTACTL_FD]),
    (cap::SYS_BOOT, calls! { SYS_reboot }),
    (cap::SYS_CHROOT, calls! { SYS_chroot }),
    (cap::SYS_MODULE, calls! { SYS_delete_module SYS_init_module SYS_finit_module }),
    (cap::SYS_PACCT, calls! { SYS_acct }),
    (cap::SYS_PTRACE, calls! { SYS_kcmp SYS_pidfd_getfd }),
    (cap::SYS_PTRACE, &[PROCESS_MADVISE]),
    #[cfg(target_arch = "x86_64")]
    (cap::SYS_RAWIO, calls! { SYS_iopl SYS_ioperm }),
    #[cfg(target_arch = "aarch64")]
    (cap::SYS_RAWIO, &[]),
    (cap::SYS_TIME, calls! { SYS_settimeofday SYS_clock_settime }),
    (cap::SYS_TTY_CONFIG, calls! { SYS_vhangup }),
    (cap::SYS_NICE, calls! { SYS_get_mempolicy SYS_mbind SYS_set_mempolicy }),
    (cap::SYS_NICE, &[SET_MEMPOLICY_HOME_NODE]),
    (cap::SYSLOG, calls! { SYS_syslog }),
    (cap::PERFMON, calls! { SYS_perf_event_open }),
    (cap::BPF, calls! { SYS_bpf }),
];
