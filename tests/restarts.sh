#!/bin/bash
# An owner's agent is restarted under a client's eyes, again and again: tests/restarts.sh target/release/vipd [TIMES]
#
# At default settings; TIMES by `systemctl restart`, and as often by SIGKILL, after which systemd starts it. The client asks every
# millisecond: no answer may be missing, and the peer's agent may change no state. Needs what tests/under-systemd.sh needs, and ping;
# takes about a second and a half each.
set -euo pipefail

binary=$(realpath "$1")
times=${2:-10}
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/check" <<'CHECK'
#!/bin/bash
set -euo pipefail
# shellcheck disable=SC1091 # it lies beside this one
source "$(dirname "$0")/helpers"
times=$(cat times)

# The peer's; that it hears of another interval is what a restart asks for.
transitions() { grep -c -e '->' peer.log; }

systemd-sysusers 2>/dev/null
start_bus
ip netns add peer
ip link set peer0 netns peer
ip -n peer link set lo up
ip -n peer address add 10.20.0.12/24 dev peer0
ip -n peer link set peer0 up
systemctl start vipd
until_true 20 carries 10.20.0.100
ip netns exec peer vipd run --config peer.toml --control peer.sock --state-dir peer-state >peer.log 2>&1 &
peer=$!
until_true 20 grep -q 'Initialize -> Backup' peer.log
# Its own interval, and what is refreshed once a minute, should not be all that the peer has heard.
sleep 2
seen=$(transitions)
ip netns exec peer ping -n -D -O -i 0.001 10.20.0.100 >ping.log 2>&1 &
ping=$!

again() {
    local pid
    for _ in $(seq "$times"); do
        pid=$(property MainPID)
        "$@"
        until_true 20 another_pid_than "$pid"
        until_true 20 adopted || { cat status log peer.log; return 1; }
    done
}
adopted() { vipd status >status 2>&1 && grep -q 'adopted from an earlier agent' status; }

again systemctl restart vipd
echo "systemctl restart: $times times"
again systemctl kill --signal KILL --kill-whom main vipd
echo "SIGKILL: $times times"

kill -INT "$ping"
wait "$ping" || true
grep 'packets transmitted' ping.log
! grep -v ' bytes from ' ping.log | grep 'no answer yet'
grep -q ' 0% packet loss' ping.log
(($(grep -c ' bytes from ' ping.log) > 100 * times))
[[ $(transitions) == "$seen" ]] || { cat peer.log; exit 1; }
echo "no answer was missing, and the peer changed no state"
kill "$peer"
wait "$peer"
CHECK

cat >"$work/prepare" <<'PREPARE'
#!/bin/bash
set -euo pipefail
root=$1 binary=$2 times=$3
install -m 755 "$binary" "$root/usr/bin/vipd"
install -D -m 644 systemd/vipd.sysusers.conf "$root/usr/lib/sysusers.d/vipd.conf"
install -D -m 644 -t "$root/usr/lib/systemd/system" systemd/vipd.service
echo "$times" >"$root/vipd-service-test/times"
# file INTERFACE PRIORITY
file() {
    printf '[[vip]]\nname = "db"\ninterface = "%s"\nvrid = 51\npriority = %s\naddresses = ["10.20.0.100/24"]\n' "$@"
}
install -d "$root/etc/vipd"
file test0 200 >"$root/etc/vipd/vipd.toml"
file peer0 100 >"$root/vipd-service-test/peer.toml"
PREPARE

CHECK_SECONDS=$((60 + 6 * times)) tests/under-systemd.sh "$work/prepare" "$work/check" "$binary" "$times"
