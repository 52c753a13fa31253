#!/bin/bash
# Checks what is in systemd/: the units verify silently, their exposure is below 3.0, the witness's at most 1.1, and the user can be made.
# Needs systemd 252 or newer; no systemd has to run, nothing is installed.
set -euo pipefail

cd "$(dirname "$0")/../systemd"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

units=(vipd.service vipd-witness.service)
# 29 tenths: "below 3.0" in the one decimal that systemd prints. The witness needs neither privileges nor files.
declare -A max_exposure=([vipd.service]=29 [vipd-witness.service]=11)

fail() {
    echo "systemd.sh: $*" >&2
    exit 1
}

# `verify` wants the program to be there: a root of our own holds the host's units, and a stand-in for the program.
directory=/usr/lib/systemd/system
mkdir -p "$root$directory" "$root/usr/bin" "$root/usr/lib/sysusers.d" "$root/etc"
cp -a "$directory/." "$root$directory/"
install -m 755 /dev/null "$root/usr/bin/vipd"
install -m 755 /dev/null "$root/usr/bin/kill"
install -m 644 "${units[@]}" vipd-drill.service vipd-drill.timer "$root$directory/"
install -m 644 vipd.sysusers.conf "$root/usr/lib/sysusers.d/vipd.conf"

# What the host's own units bring along is not our fault: only lines about ours count.
complaints=$(SYSTEMD_LOG_LEVEL=info systemd-analyze verify --root="$root" --man=no "${units[@]}" vipd-drill.timer 2>&1) ||
    fail "systemd-analyze verify: $complaints"
if [[ "$complaints" == *vipd* ]]; then
    fail "systemd-analyze verify is not silent: $complaints"
fi
echo "verify: silent"

for unit in "${units[@]}"; do
    systemd-analyze security --offline=true --no-pager --threshold="${max_exposure[$unit]}" "./$unit" >"$root/security" ||
        { cat "$root/security"; fail "$unit: exposure above ${max_exposure[$unit]} tenths, or no verdict"; }
    tail -n 1 "$root/security"
done

# Exactly these, and no others.
for setting in AmbientCapabilities CapabilityBoundingSet; do
    grep -qx "$setting=CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_NICE CAP_IPC_LOCK" vipd.service ||
        fail "$setting is not what the design allows"
    grep -qx "$setting=" vipd-witness.service || fail "the witness needs no $setting"
done
echo "capabilities: the four, and none of the witness"

systemd-sysusers --root="$root" "$root/usr/lib/sysusers.d/vipd.conf"
grep -q '^vipd:' "$root/etc/passwd" || fail "no user vipd"
grep -q '^vipd:' "$root/etc/group" || fail "no group vipd"
echo "sysusers: user and group vipd"
