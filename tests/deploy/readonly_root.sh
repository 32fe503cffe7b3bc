#!/bin/bash
# readonly_root.sh TREE COMMAND...: runs a command as a pod of deploy/kuberay does.
#
# User 10001, no capabilities, and a root that is read-only but for /tmp, /dev/shm, and /srv, which
# stands for /jobs. TREE stays where it is, read-only. To be run in namespaces of its own:
#
#     unshare --mount --net --pid --fork --mount-proc --kill-child bash readonly_root.sh TREE COMMAND...
set -eu
tree=$1
shift
mount --bind "$tree" /mnt
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p "$tree"
mount --bind /mnt "$tree"
umount /mnt
mount -o remount,bind,ro "$tree"
mount -t tmpfs -o mode=1777,size=256m tmpfs /dev/shm
mount -t tmpfs -o uid=10001,gid=10001 tmpfs /srv
mount -o remount,bind,ro /
ip link set dev lo up
exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all "$@"
