#!/bin/bash
# Checks what is in systemd/: the unit verifies silently, its exposure is below 3.0, and its user can be made.
# Needs systemd 252 or newer; no systemd has to run, nothing is installed.
set -euo pipefail

cd "$(dirname "$0")/../systemd"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# 29 tenths: "below 3.0" in the one decimal that systemd prints.
max_exposure=29

fail() {
    echo "systemd.sh: $*" >&2
    exit 1
}

# `verify` wants the program to be there: a root of our own holds the host's units, and a stand-in for the program.
units=/usr/lib/systemd/system
mkdir -p "$root$units" "$root/usr/bin" "$root/usr/lib/sysusers.d" "$root/etc"
cp -a "$units/." "$root$units/"
install -m 755 /dev/null "$root/usr/bin/vipd"
install -m 644 vipd.service vipd-drill.service vipd-drill.timer "$root$units/"
install -m 644 vipd.sysusers.conf "$root/usr/lib/sysusers.d/vipd.conf"

# What the host's own units bring along is not our fault: only lines about ours count.
complaints=$(SYSTEMD_LOG_LEVEL=info systemd-analyze verify --root="$root" --man=no vipd.service vipd-drill.timer 2>&1) ||
    fail "systemd-analyze verify: $complaints"
if [[ "$complaints" == *vipd* ]]; then
    fail "systemd-analyze verify is not silent: $complaints"
fi
echo "verify: silent"

systemd-analyze security --offline=true --no-pager --threshold="$max_exposure" ./vipd.service >"$root/security" ||
    { cat "$root/security"; fail "exposure of 3.0 or more, or no verdict"; }
tail -n 1 "$root/security"

# Exactly these, and no others.
for setting in AmbientCapabilities CapabilityBoundingSet; do
    grep -qx "$setting=CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_NICE CAP_IPC_LOCK" vipd.service ||
        fail "$setting is not what the design allows"
done
echo "capabilities: the four"

systemd-sysusers --root="$root" "$root/usr/lib/sysusers.d/vipd.conf"
grep -q '^vipd:' "$root/etc/passwd" || fail "no user vipd"
grep -q '^vipd:' "$root/etc/group" || fail "no group vipd"
echo "sysusers: user and group vipd"
