#!/bin/sh
# Become process 1, systemd, of a machine whose disk is this one's with a layer of its own on top, in the network
# namespace this is started in. Usage: boot.sh CGROUP LAYER ROOT DEPENDENCIES TREE; what the machine changes is in LAYER/up.
set -eu
cgroup=$1 layer=$2 root=$3 dependencies=$4 tree=$5
if [ "${6-}" != inside ]; then
    echo $$ >"$cgroup/cgroup.procs"
    exec unshare --mount --pid --fork --kill-child --ipc --uts --cgroup "$0" "$@" inside
fi

mkdir -p "$layer/up" "$layer/work" "$root"
mount -t overlay machine -o "lowerdir=/,upperdir=$layer/up,workdir=$layer/work" "$root"
cd "$root"
mkdir -p opt/dependencies
mount --bind "$dependencies" opt/dependencies
mount -t proc proc proc
# All sysctls but the network's belong to the whole machine underneath.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 run run
mount -t tmpfs -o mode=1777 tmp tmp
case $tree in
    /tmp/* | /run/*) # an empty folder hides the source tree: it is shown again, with a layer of its own
        mkdir -p "$layer/tree-up" "$layer/tree-work" ".$tree"
        mount -t overlay tree -o "lowerdir=$tree,upperdir=$layer/tree-up,workdir=$layer/tree-work" ".$tree"
        ;;
esac
mount -t tmpfs -o mode=0755 dev dev
for device in null zero full random urandom tty; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
ln -s pts/ptmx dev/ptmx

# Nothing starts but systemd itself, its journal, tmpfiles.d and what a test enables.
: >etc/fstab
mkdir -p run/systemd/system
for target in sysinit local-fs sockets timers paths basic multi-user getty remote-fs; do
    for unit in etc/systemd/system/$target.target.wants/* usr/lib/systemd/system/$target.target.wants/*; do
        case ${unit##*/} in
            *.target | systemd-journald* | systemd-tmpfiles-setup.service | bgp-agent* | '*') ;;
            *) ln -sf /dev/null "run/systemd/system/${unit##*/}" ;;
        esac
    done
done

mkdir run/before
pivot_root . run/before
umount -l /run/before
rmdir /run/before
exec env -i container=lxc PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=0
