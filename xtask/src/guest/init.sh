#!/bin/busybox sh
# The guest's first and only process: mounts what the tracer reads, loads the modules, runs the tests, says how they ended.
/bin/busybox --install -s /bin
export PATH=/bin AMQPTRACE_BIN=/amqptrace
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs securityfs /sys/kernel/security
mount -t tracefs tracefs /sys/kernel/tracing
ip link set lo up
echo "AMQPTRACE-GUEST-UP:$(uname -r)"
# Their names say the order. Where there are none the pattern stays as it is.
for module in /modules/*.ko; do
    [ -e "$module" ] || continue
    insmod "$module" || { echo "AMQPTRACE-GUEST-REFUSED:$module"; poweroff -f; }
done
cat /proc/modules
/e2e loopback:: --test-threads=1 --nocapture
echo "AMQPTRACE-GUEST-EXIT:$?"
poweroff -f
