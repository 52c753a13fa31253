#!/bin/bash
# The service under a real systemd, as the README installs it: tests/service.sh target/release/vipd
#
# Needs what tests/under-systemd.sh needs; takes about 15 s.
set -euo pipefail

binary=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/check" <<'CHECK'
#!/bin/bash
set -euo pipefail
# shellcheck disable=SC1091 # it lies beside this one
source "$(dirname "$0")/helpers"

systemd-sysusers 2>/dev/null
start_bus
promotes() { [[ $(sysctl --values net.ipv4.conf.test0.promote_secondaries) == "$1" ]]; }
sysctl -q net.ipv4.conf.test0.promote_secondaries=0
systemctl start vipd
echo "Type=notify: started"
until_true 20 carries 10.20.0.100
until_true 20 carries 2001:db8:20::100
until_true 20 carries 10.20.0.101
until_true 20 carries 2001:db8:20::101
vipd status
vipd status --json | grep -q '"realtime": true'
vipd status --json | grep -q '"memory_locked": true'
echo "owner of both families, on the interface and on the virtual MAC address, with real-time scheduling"

# The agent restricts itself: each thread by two filters more than the unit, which is what holds for a hook.
until_true 5 test -s /run/vipd/hook
filters() { awk '/^Seccomp_filters:/ { print $2 }' "$@" | sort -u; }
(($(filters /proc/"$(property MainPID)"/task/*/status) == $(filters /run/vipd/hook) + 2))
vipd status --json | grep -q '"seccomp": true'
! grep 'open to it' log
! grep 'is not started' log
vipd status --json | grep '"landlock"'
echo "sandbox: all threads of the agent, and not its programs"

ip -oneline monitor address >addresses &
monitor=$!
pid=$(property MainPID)
systemctl restart vipd
until_true 20 another_pid_than "$pid"
vipd status | grep -c 'adopted from an earlier agent' | grep -qx 2
sleep 1
kill "$monitor"
if grep Deleted addresses; then
    exit 1
fi
echo "restart: the next agent goes on with what the last one owned, and no address went"

# As on a host that needs longer than three of the intervals to start it.
slow=/run/systemd/system/vipd.service.d/slow.conf
printf '[Service]\nExecStartPre=/bin/sleep 1\n' >"$slow"
systemctl daemon-reload
systemctl restart vipd
vipd status | grep -c 'adopted from an earlier agent' | grep -qx 2
rm "$slow"
systemctl daemon-reload
echo "a restart that takes a second: the same"

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
until_true 20 carries 10.20.0.102
echo 'nonsense = 1' >>/etc/vipd/vipd.toml
! systemctl reload vipd 2>/dev/null
systemctl is-active vipd >/dev/null
grep -q nonsense log
carries 10.20.0.102
cp vipd.toml /etc/vipd/vipd.toml
systemctl reload vipd
until_true 20 bare_of 10.20.0.102
(($(property MainPID) == pid))
echo "reload: an address comes and goes; a wrong file is refused, and all goes on"

effective() { vipd status --json | grep -q "\"effective_priority\": $1,"; }
until_true 20 effective 80
vipd status | grep 'watched.service is inactive'
systemctl start watched
until_true 20 effective 100
systemctl stop watched
until_true 20 effective 80
echo "checks: a unit that is started and stopped, over D-Bus"

sed -i 's|^systemd *=.*|process = "systemd"|' /etc/vipd/vipd.toml
! systemctl reload vipd 2>/dev/null
grep -q 'the processes of other users are hidden from the agent' log
install -D -m 644 process-checks.conf /etc/systemd/system/vipd.service.d/process-checks.conf
systemctl daemon-reload
pid=$(property MainPID)
systemctl restart vipd
until_true 20 another_pid_than "$pid"
until_true 20 effective 100
cp vipd.toml /etc/vipd/vipd.toml
systemctl reload vipd
echo "checks: processes of other users need the drop-in, and without it that is an error"
pid=$(property MainPID)

promotes 1
kill -STOP "$pid"
until_true 20 another_pid_than "$pid"
until_true 20 vipd status >status 2>&1
echo "watchdog: a stuck agent is killed and begun anew"

systemctl stop vipd
for address in 10.20.0.100 2001:db8:20::100 10.20.0.101 2001:db8:20::101; do
    bare_of "$address"
done
carries 10.20.0.11
[[ -z $(ip link show type macvlan) ]]
[[ ! -e /run/vipd ]]
promotes 0
echo "stop: no address, no macvlan, no socket and no changed setting is left, though the agent was restarted and killed since"

# Where no control socket can be made.
refused=/run/systemd/system/vipd.service.d/refused.conf
printf '[Service]\nExecStart=\nExecStart=/usr/bin/vipd run --control /proc/vipd.sock\n' >"$refused"
systemctl daemon-reload
tried=$(grep -c 'vipd: control socket /proc/vipd.sock' log || true)
systemctl start --no-block vipd
sleep 3.5
tried=$(($(grep -c 'vipd: control socket /proc/vipd.sock' log) - tried))
((2 <= tried && tried <= 4)) || { echo "tried $tried times"; false; }
systemctl stop vipd
rm "$refused"
systemctl daemon-reload
echo "an agent that can never start: tried once a second"

echo 'nonsense = 1' >>/etc/vipd/vipd.toml
! systemctl start vipd 2>/dev/null
until_true 20 failed
(($(property ExecMainStatus) == 3))
echo "a wrong file: exit code 3, not tried again"

witness() { systemctl show --value --property "$1" vipd-witness; }
! systemctl start vipd-witness 2>/dev/null
(umask 027; vipd keygen >/etc/vipd/key)
chgrp vipd /etc/vipd/key
systemctl start vipd-witness
pid=$(witness MainPID)
for set in CapPrm CapEff CapBnd CapAmb; do
    grep -q "^$set:.*0000000000000000$" "/proc/$pid/status"
done
[[ $(stat -c %U "/proc/$pid") == vipd ]]
grep -q '^Seccomp:.*2$' "/proc/$pid/status"
until_true 20 grep -q 'is a witness on UDP port 3112, and votes in 3s' log
(umask 027; vipd keygen | cat /etc/vipd/key - >/etc/vipd/keys; chgrp vipd /etc/vipd/keys; mv /etc/vipd/keys /etc/vipd/key)
systemctl reload vipd-witness
until_true 20 grep -q 'reloaded: seal: sealed with' log
(($(witness MainPID) == pid))
systemctl stop vipd-witness
[[ $(witness Result) == success ]]
echo "witness: no key, no start; with one user vipd, no capability, seccomp; a reload reads another"
CHECK

cat >"$work/prepare" <<'PREPARE'
#!/bin/bash
set -euo pipefail
root=$1 binary=$2
install -m 755 "$binary" "$root/usr/bin/vipd"
install -D -m 644 systemd/vipd.sysusers.conf "$root/usr/lib/sysusers.d/vipd.conf"
install -D -m 644 -t "$root/usr/lib/systemd/system" systemd/vipd.service systemd/vipd-witness.service
install -D -m 644 systemd/vipd.service.d/process-checks.conf "$root/vipd-service-test/process-checks.conf"
printf '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n' >"$root/etc/systemd/system/watched.service"
install -d "$root/etc/vipd"
cat >"$root/etc/vipd/vipd.toml" <<TOML
[[vip]]
name      = "plain"
interface = "test0"
vrid      = 51
addresses = ["10.20.0.100/24", "2001:db8:20::100/64"]
[[vip.check]]
name      = "unit"
systemd   = "watched"
interval  = "100ms"
weight    = -20
[vip.hooks.after_claim]
exec      = ["/bin/cp", "/proc/self/status", "/run/vipd/hook"]

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
PREPARE

tests/under-systemd.sh "$work/prepare" "$work/check" "$binary"
