# The second half of the first process, in its final root: runs the command and reports its end.
b=/.vm/busybox
$b hostname podrun-vm
$b ip link set lo up || $b ifconfig lo up
# Hosts with systemd share their mounts; leftovers and leaks show only then.
$b mount --make-rshared /
# Whatever of this the kernel has; podrun itself relies on the kernel's own loading of modules, which
# needs the host's modprobe.
for module in overlay veth bridge ifb tun nf_tables nft_chain_nat nft_masq nft_redir nft_ct nf_nat nf_conntrack \
	sch_tbf sch_htb sch_ingress sch_fq_codel sch_netem cls_u32 cls_matchall cls_bpf act_mirred act_police; do
	/sbin/modprobe -q "$module" || echo "modprobe $module: not loaded"
done
for port in 0 2; do $b stty -F /dev/ttyS$port raw -echo; done
echo up >/dev/ttyS2
# Not busybox, whose shell would run its own applets instead of the host's programs.
/bin/sh /.vm/command >/dev/ttyS0 2>&1 </dev/null
code=$?
# Setting a terminal waits until it has sent what it holds.
$b stty -F /dev/ttyS0 raw -echo
echo "exit $code" >/dev/ttyS2
$b stty -F /dev/ttyS2 raw -echo
$b poweroff -f
