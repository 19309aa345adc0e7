#!/bin/busybox sh
# The first process: finds the host's files and makes them the root. Its output is the kernel's log.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
exec >/dev/ttyS1 2>&1 </dev/null
while read -r module; do $b insmod "/modules/$module" || echo "insmod $module failed"; done </modules/order

# 512000 bytes a message instead of 8 KiB make reading programs bearable.
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro hostroot /lower || $b poweroff -f
$b mount -t tmpfs -o size=75% upper /upper
$b mkdir /upper/upper /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work root /newroot || $b poweroff -f

cd /newroot || $b poweroff -f
$b mkdir -p proc sys dev tmp run var/lib/podrun lib/modules .vm
$b mount -t proc proc proc
$b mount -t sysfs sysfs sys
$b mount -t cgroup2 cgroup2 sys/fs/cgroup
$b mount -t bpf bpf sys/fs/bpf
$b mount -t devtmpfs devtmpfs dev
$b mkdir -p dev/pts dev/shm dev/mqueue
$b mount -t devpts -o mode=620,ptmxmode=666 devpts dev/pts
$b mount -t tmpfs -o mode=1777 tmpfs dev/shm
$b mount -t mqueue mqueue dev/mqueue
$b mount -t tmpfs -o mode=1777 tmpfs tmp
$b mount -t tmpfs -o mode=755 tmpfs run
# An overlay cannot be the upper layer of another one, so podrun's images need a place of their own.
$b mount -t tmpfs -o mode=755 tmpfs var/lib/podrun
# Directories of the host that the new tmpfs would hide, such as a checkout below /tmp.
while read -r dir; do $b mkdir -p "./$dir" && $b mount --bind "/lower$dir" "./$dir"; done </visible
read -r modules </modules_dir
$b mkdir -p "lib/modules/$($b uname -r)"
$b mount --bind "/lower$modules" "lib/modules/$($b uname -r)"
$b cp /bin/busybox /guest.sh /command .vm/
exec $b switch_root /newroot /.vm/busybox sh /.vm/guest.sh
