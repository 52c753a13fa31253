#!/bin/bash
# Runs a check under a real systemd: tests/under-systemd.sh PREPARE CHECK [ARGUMENT...]
#
# systemd runs as process 1 of namespaces of its own, on an overlay of this machine's files: what it installs and starts is
# gone afterwards. PREPARE is called before it starts, with the overlay's root and the arguments, to put files there. CHECK runs
# inside as a unit, in a folder of its own, with `helpers` beside it; its exit code becomes this one's. There is an
# interface test0 with 10.20.0.11/24, whose other end is peer0, and what vipd logs is in `log`.
# CHECK_SECONDS, 120 unless told, is how long CHECK may take. Needs root, overlayfs and cgroup v2.
set -euo pipefail

export CHECK_SECONDS=${CHECK_SECONDS:-120}

work=$(mktemp -d)
install -m 755 "$1" "$work/prepare"
install -m 755 "$2" "$work/check"
shift 2
cgroup=/sys/fs/cgroup
[[ -d $cgroup/unified ]] && cgroup=$cgroup/unified
cgroup=$cgroup/vipd-service-test.$$

# shellcheck disable=SC2317 # called by the trap
finish() {
    # All processes of the namespaces ended with their first one; what the kernel still clears away is waited for.
    local attempt
    for attempt in {1..50}; do
        if [[ ! -d $cgroup ]] || find "$cgroup" -depth -type d -exec rmdir {} + 2>"$work/rmdir"; then
            break
        fi
        ((attempt < 50)) || cat "$work/rmdir" >&2
        sleep 0.1
    done
    rm -rf "$work"
}
trap finish EXIT

# What every check begins with.
cat >"$work/helpers" <<'HELPERS'
cd "$(dirname "$0")"
trap 'echo "line $LINENO failed"; systemctl status --no-pager vipd; cat log' ERR

# until_true SECONDS COMMAND...: a deadline for what happens soon.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || { echo "not within its time: $*"; return 1; }
        sleep 0.05
    done
}
carries() { ip address show | grep -qF " $1/"; }
bare_of() { ! carries "$1"; }
property() { systemctl show --value --property "$1" vipd; }
another_pid_than() { (($(property MainPID) != $1)); }
failed() { [[ $(property ActiveState) == failed ]]; }

# By it systemd answers the agent whether it is being restarted.
start_bus() {
    systemctl start dbus.service
    until_true 20 runuser -u nobody -- systemctl list-jobs >jobs 2>&1
}
HELPERS

# shellcheck disable=SC2016 # expanded by the inner shell
inside='
work=$1 root=$work/fs/root
shift
mkdir "$work/fs"
mount -t tmpfs tmpfs "$work/fs"
mkdir "$work/fs/upper" "$work/fs/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$work/fs/upper,workdir=$work/fs/work" overlay "$root"

# All of the test itself in one folder, whose name no machine has: in / there may be anything.
here=/vipd-service-test
install -D -m 755 "$work/check" "$root$here/check"
install -m 644 "$work/helpers" "$root$here/helpers"
# Whoever runs the tests may forbid packages to start services; in here that is what is tested.
rm -f "$root/usr/sbin/policy-rc.d"
cat >"$root/etc/systemd/system/check.service" <<UNIT
[Unit]
DefaultDependencies=no
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
ExecStart=$here/check
StandardOutput=append:$here/result
StandardError=append:$here/result
TimeoutStartSec=$CHECK_SECONDS
UNIT
rm -f "$root/etc/machine-id"
touch "$root/etc/machine-id"
touch "$work/result"

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts" "$root/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for device in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
    read -r name major minor <<<"$device"
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
# The journal of the machine is not ours to write to.
for unit in vipd.service vipd-witness.service; do
    install -d "$root/run/systemd/system/$unit.d"
    printf "[Service]\nStandardOutput=append:%s\nStandardError=append:%s\n" "$here/log" "$here/log" \
        >"$root/run/systemd/system/$unit.d/log.conf"
done
touch "$root$here/result"
mount --bind "$work/result" "$root$here/result"

hostname service-test
ip link set lo up
ip link add test0 type veth peer name peer0
ip address add 10.20.0.11/24 dev test0
ip link set test0 up
ip link set peer0 up

"$work/prepare" "$root" "$@"
cd "$root"
mkdir -p mnt/old
pivot_root . mnt/old
umount -l /mnt/old
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=0 --log-target=null systemd.unit=check.service
'

mkdir "$cgroup"
code=0
# The shell of the parentheses moves into the control group; process 1 must not stand in one of the machine's own.
(
    echo "$BASHPID" >"$cgroup/cgroup.procs"
    exec timeout --kill-after=5 "$((CHECK_SECONDS + 30))" unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child --propagation private \
        bash -euc "$inside" bash "$work" "$@"
) </dev/null || code=$?
cat "$work/result"
if ((code != 0)); then
    echo "under-systemd.sh: failed with exit code $code" >&2
fi
exit "$code"
