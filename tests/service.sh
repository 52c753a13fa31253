#!/bin/bash
# The service under a real systemd, as the README installs it: tests/service.sh target/release/vipd
#
# systemd runs as process 1 of namespaces of its own, on an overlay of this machine's files: what it installs and starts is
# gone afterwards. Needs root, overlayfs and cgroup v2; takes about 10 s.
set -euo pipefail

binary=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
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

# Runs inside, as a unit of that systemd, whose exit code becomes the whole test's.
cat >"$work/check" <<'CHECK'
#!/bin/bash
set -euo pipefail
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

systemd-sysusers 2>/dev/null
# By it systemd answers the agent whether it is being restarted.
systemctl start dbus.service
until_true 10 runuser -u nobody -- systemctl list-jobs >jobs 2>&1
systemctl start vipd
echo "Type=notify: started"
until_true 5 carries 10.20.0.100
until_true 5 carries 2001:db8:20::100
until_true 5 carries 10.20.0.101
until_true 5 carries 2001:db8:20::101
vipd status
vipd status --json | grep -q '"realtime": true'
vipd status --json | grep -q '"memory_locked": true'
echo "owner of both families, on the interface and on the virtual MAC address, with real-time scheduling"

ip -oneline monitor address >addresses &
monitor=$!
pid=$(property MainPID)
systemctl restart vipd
until_true 5 another_pid_than "$pid"
vipd status | grep -c 'adopted from an earlier agent' | grep -qx 2
sleep 1
kill "$monitor"
if grep Deleted addresses; then
    exit 1
fi
echo "restart: the next agent goes on with what the last one owned, and no address went"

pid=$(property MainPID)
[[ $(stat -c %U "/proc/$pid") == vipd ]]
# NET_ADMIN is 12, NET_RAW 13, IPC_LOCK 14, SYS_NICE 23.
for set in CapPrm CapEff CapBnd CapAmb; do
    grep -q "^$set:.*0000000000807000$" "/proc/$pid/status"
done
grep -q '^Seccomp:.*2$' "/proc/$pid/status"
[[ $(stat -c '%U %G %a' /run/vipd/control.sock) == 'vipd vipd 660' ]]
[[ $(stat -c '%U %G %a' /run/vipd) == 'vipd vipd 750' ]]
[[ $(stat -c '%U %G %a' /var/lib/vipd) == 'vipd vipd 700' ]]
[[ $(stat -c '%U %G %a' /var/lib/vipd/events.jsonl) == 'vipd vipd 600' ]]
vipd events --vip plain | grep -q 'Claiming -> Active'
for command in status events; do
    code=0
    runuser -u nobody -- vipd "$command" || code=$?
    ((code == 5))
done
echo "user vipd, four capabilities, seccomp; the socket is for root and the group, the journal for root"

cp /etc/vipd/vipd.toml vipd.toml
sed -i 's|^addresses = \["10.20.0.101/24"|addresses = ["10.20.0.102/24", "10.20.0.101/24"|' /etc/vipd/vipd.toml
systemctl reload vipd
until_true 5 carries 10.20.0.102
echo 'nonsense = 1' >>/etc/vipd/vipd.toml
! systemctl reload vipd 2>/dev/null
systemctl is-active vipd >/dev/null
grep -q nonsense log
carries 10.20.0.102
cp vipd.toml /etc/vipd/vipd.toml
systemctl reload vipd
until_true 5 bare_of 10.20.0.102
(($(property MainPID) == pid))
echo "reload: an address comes and goes; a wrong file is refused, and all goes on"

kill -STOP "$pid"
until_true 10 another_pid_than "$pid"
until_true 5 vipd status >status 2>&1
echo "watchdog: a stuck agent is killed and begun anew"

systemctl stop vipd
for address in 10.20.0.100 2001:db8:20::100 10.20.0.101 2001:db8:20::101; do
    bare_of "$address"
done
carries 10.20.0.11
[[ -z $(ip link show type macvlan) ]]
[[ ! -e /run/vipd ]]
echo "stop: no address, no macvlan, no socket is left"

echo 'nonsense = 1' >>/etc/vipd/vipd.toml
! systemctl start vipd 2>/dev/null
until_true 5 failed
(($(property ExecMainStatus) == 3))
echo "a wrong file: exit code 3, not tried again"
CHECK

# shellcheck disable=SC2016 # expanded by the inner shell
inside='
work=$1 binary=$2 root=$work/fs/root
mkdir "$work/fs"
mount -t tmpfs tmpfs "$work/fs"
mkdir "$work/fs/upper" "$work/fs/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$work/fs/upper,workdir=$work/fs/work" overlay "$root"

install -m 755 "$binary" "$root/usr/bin/vipd"
install -D -m 644 systemd/vipd.sysusers.conf "$root/usr/lib/sysusers.d/vipd.conf"
install -D -m 644 systemd/vipd.service "$root/usr/lib/systemd/system/vipd.service"
install -d "$root/etc/vipd"
# All of the test itself in one folder, whose name no machine has: in / there may be anything.
here=/vipd-service-test
install -D -m 755 "$work/check" "$root$here/check"
cat >"$root/etc/vipd/vipd.toml" <<TOML
[[vip]]
name      = "plain"
interface = "test0"
vrid      = 51
addresses = ["10.20.0.100/24", "2001:db8:20::100/64"]

[[vip]]
name      = "virtual-mac"
interface = "test0"
vrid      = 52
mac       = "virtual"
addresses = ["10.20.0.101/24", "2001:db8:20::101/64"]

[[vip]]
name      = "late"
interface = "test1"
vrid      = 53
addresses = ["10.21.0.100/24"]
TOML
# The journal of the machine is not ours to write to.
install -d "$root/etc/systemd/system/vipd.service.d"
printf "[Service]\nStandardOutput=append:%s\nStandardError=append:%s\n" "$here/log" "$here/log" \
    >"$root/etc/systemd/system/vipd.service.d/log.conf"
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
TimeoutStartSec=60
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
touch "$root$here/result"
mount --bind "$work/result" "$root$here/result"

hostname service-test
ip link set lo up
ip link add test0 type veth peer name peer0
ip address add 10.20.0.11/24 dev test0
ip link set test0 up
ip link set peer0 up

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
    exec timeout --kill-after=5 90 unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child --propagation private \
        bash -euc "$inside" bash "$work" "$binary"
) </dev/null || code=$?
cat "$work/result"
if ((code != 0)); then
    echo "service.sh: failed with exit code $code" >&2
fi
exit "$code"
