#!/bin/bash
# The memory of an owner of many virtual routers, one address each: tests/memory.sh target/release/vipd
#
# As root, in a network namespace of its own; takes half a minute. It is the most that the process ever had (VmHWM).
# Fails where that is more than what keepalived's largest process has: 7.6 MiB of 250, 8.7 MiB of 1,000. vipd has less;
# by how much depends on the pieces in which the kernel keeps the file of the program, and on how busy the host is when
# the agent starts.
set -euo pipefail

if [[ ${INSIDE:-} != yes ]]; then
    INSIDE=yes exec unshare --net "$0" "$(realpath "$1")"
fi
binary=$1
work=$(mktemp -d)
agent=
trap '[[ -z $agent ]] || kill "$agent"; rm -rf "$work"' EXIT
ip link set lo up

# owner ROUTERS LIMIT: KiB
owner() {
    local routers=$1 limit=$2 networks=$((($1 + 249) / 250)) network router used
    printf '[node]\nname = "a"\n' >"$work/vipd.toml"
    for ((network = 0; network < networks; network++)); do
        ip link add "e$network" type veth peer name "p$network"
        ip link set "p$network" up
        ip link set "e$network" up
        ip address add "10.$((20 + network)).0.1/16" dev "e$network"
    done
    for ((router = 0; router < routers; router++)); do
        network=$((router / 250))
        printf '[[vip]]\nname = "v%d"\ninterface = "e%d"\nvrid = %d\nadvert_interval = "1s"\npriority = 200\naddresses = ["10.%d.1.%d/16"]\n' \
            "$router" "$network" $((router % 250 + 1)) $((20 + network)) $((router % 250 + 1))
    done >>"$work/vipd.toml"
    "$binary" run --config "$work/vipd.toml" --control "$work/control" --state-dir "$work/state" 2>"$work/log" &
    agent=$!
    # Past the claims, and the announcements that follow.
    sleep 12
    used=$(awk '/^VmHWM:/ { print $2 }' "/proc/$agent/status")
    [[ $("$binary" status --control "$work/control" | grep -c ' Active ') == "$routers" ]] || { cat "$work/log"; return 1; }
    echo "$routers virtual routers: $used KiB"
    kill "$agent"
    wait "$agent"
    agent=
    for ((network = 0; network < networks; network++)); do
        ip link delete "e$network"
    done
    ((used <= limit)) || { echo "more than $limit KiB" >&2; return 1; }
}

owner 250 7168
owner 1000 8908
