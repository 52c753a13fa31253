# shellcheck shell=bash
# What the scripts of the Vagrant lab share; they source it. A host is run in by ssh, and dealt with from outside by its hypervisor.

cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
export LIBVIRT_DEFAULT_URI=${LIBVIRT_DEFAULT_URI:-qemu:///system}
# shellcheck disable=SC2034 # used where this is sourced
VIP=10.98.0.100
# shellcheck disable=SC2034
NODES=(node-a node-b)

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# id NAME: the hypervisor's own name for a host.
id() {
    cat .vagrant/machines/"$1"/*/id 2>/dev/null || fail "there is no $1: vagrant up"
}

provider() {
    local file
    for file in .vagrant/machines/"$1"/*/id; do
        basename "$(dirname "$file")"
    done
}

# on NAME COMMAND...: as root in a host. Vagrant itself takes seconds to say how a host is reached, so its answer is kept.
on() {
    local name=$1 config=.vagrant/ssh-config.$1
    shift
    id "$name" >/dev/null
    if [[ ! -s $config || -n $(find .vagrant/machines/"$name" -newer "$config") ]]; then
        vagrant ssh-config "$name" >"$config" || { rm -f "$config"; fail "$name is not running: vagrant up $name"; }
    fi
    ssh -F "$config" -o LogLevel=ERROR -o ConnectTimeout=10 "$name" sudo "$@"
}

# measured SECONDS COMMAND...: what the client sees while a command is run; begins when somebody answers.
measured() {
    local seconds=$1 output client
    shift
    output=$(mktemp)
    ./measure "$seconds" >"$output" &
    client=$!
    until grep -q 'node-.* answers' "$output"; do
        kill -0 "$client" 2>/dev/null || { cat "$output"; fail "nobody answers"; }
        sleep 0.1
    done
    "$@"
    wait "$client"
    cat "$output"
    rm -f "$output"
}

# process NAME: the hypervisor's process that is a host.
process() {
    case $(provider "$1") in
    libvirt) as_root cat "/run/libvirt/qemu/$(virsh domname "$(id "$1")" | head -n 1).pid" ;;
    virtualbox) pgrep -f -- "--startvm $(id "$1")" ;;
    esac
}

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

power_off() {
    case $(provider "$1") in
    libvirt) virsh --quiet destroy "$(id "$1")" ;;
    virtualbox) VBoxManage --nologo controlvm "$(id "$1")" poweroff ;;
    esac
    echo "$1 is off"
}

# freeze NAME SECONDS: the whole host stands still, while the clock goes on.
freeze() {
    local pid
    pid=$(process "$1")
    # Whatever happens here, it does not stay so.
    trap 'as_root kill -CONT '"$pid" EXIT
    as_root kill -STOP "$pid"
    echo "$1 stands still"
    sleep "$2"
    as_root kill -CONT "$pid"
    trap - EXIT
    echo "$1 goes on"
}

# link NAME on|off: the cable of its interface in the lab's network.
link() {
    local number mac
    number=$(id "$1")
    case $(provider "$1") in
    libvirt)
        mac=$(virsh --quiet domiflist "$number" | awk '$3 == "vipd-lab" { print $5 }')
        virsh --quiet domif-setlink "$number" "$mac" "$([[ $2 == on ]] && echo up || echo down)"
        ;;
    virtualbox) VBoxManage --nologo controlvm "$number" setlinkstate2 "$2" ;;
    esac
    echo "$1: link $2"
}
