#!/bin/bash
# The Debian package: built, linted, and installed, upgraded, removed and purged under a real systemd: tests/package.sh
#
# Needs cargo-deb, dpkg-dev, lintian and ping, and what tests/under-systemd.sh needs. Takes about 20 s and a release build.
set -euo pipefail

cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The next build clears it away.
cp "$(debian/build 0.0.9-1)" "$work/earlier.deb"
package=$(debian/build)
# Errors and warnings, each of which is heeded or answered in debian/lintian-overrides.
lintian --allow-root --fail-on error,warning "$package"
echo "lintian: neither errors nor warnings"
mkdir "$work/files"
dpkg-deb --fsys-tarfile "$package" | tar -xf - -C "$work/files" ./usr/share/doc
links=0
while IFS= read -r target; do
    [[ -e "$work/files/usr/share/doc/vipd/${target%#*}" ]]
    links=$((links + 1))
done < <(grep -o '](docs/[^)]*)' "$work/files/usr/share/doc/vipd/README.md" | sed 's/^](//; s/)$//')
((links > 10))
echo "README: what it links to is in the package"

cat >"$work/check" <<'CHECK'
#!/bin/bash
set -euo pipefail
# shellcheck disable=SC1091 # it lies beside this one
source "$(dirname "$0")/helpers"

# What a package can leave behind, but for dpkg's own notes.
inventory() {
    find /etc /usr /var /run -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/var/cache/*' \
        -not -path '/run/systemd/*' -not -path '/run/netns*' -not -path '/etc/*-' -not -path '/run/dbus*' \
        -not -path '/var/lib/systemd/*' -not -path '/run/udev*' -not -path '/run/lock*' -not -path '/run/user*' \
        -not -path '/run/credentials*' -not -path '/run/log*' | sort
    cut -d: -f1 /etc/passwd /etc/group
    nft list tables
    ip -oneline address show scope global | cut -d'\' -f1
    ip -oneline link show type macvlan
    sysctl --all --pattern '^net\.(ipv[46]\.conf\.(all|default|test0)|core)\.' 2>/dev/null
}
active() { [[ $(property ActiveState) == active ]]; }
version_is() { [[ $(dpkg-query --show --showformat '${Version}' vipd) == "$1" ]]; }

start_bus
inventory >before

dpkg --install earlier.deb >said 2>&1
grep -q 'vipd is not started: it has no configuration. Write /etc/vipd/vipd.toml' said
! active
[[ $(systemctl is-enabled vipd) == enabled ]]
! systemctl start vipd 2>/dev/null
until_true 20 failed
(($(property ExecMainStatus) == 3))
grep -q 'cannot read the file' log
systemctl reset-failed vipd
[[ $(stat -c '%U %G %a' /etc/vipd) == 'root vipd 2750' ]]
man --where --path vipd >/dev/null
echo "installed: not started without a configuration, and says so"

cat >/etc/vipd/vipd.toml <<TOML
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
addresses = ["10.20.0.101/24"]
TOML
[[ $(stat -c %G /etc/vipd/vipd.toml) == vipd ]]
vipd check >checked
systemctl start vipd
for address in 10.20.0.100 2001:db8:20::100 10.20.0.101; do
    until_true 20 carries "$address"
done
echo "configured: started, owner"

# A client asks a hundred times a second, while the package is upgraded.
ip netns add client
ip link set peer0 netns client
ip -n client address add 10.20.0.99/24 dev peer0
ip -n client link set peer0 up
answers() { ip netns exec client ping -c 1 -W 1 "$1" >/dev/null; }
until_true 20 answers 10.20.0.100
until_true 20 answers 10.20.0.101
clients=()
for address in 10.20.0.100 10.20.0.101; do
    # -D is needed by nobody but a reader of a failure: when was it?
    ip netns exec client ping -D -O -i 0.01 "$address" >"ping.$address" 2>&1 &
    clients+=($!)
done
ip -oneline monitor address >addresses &
monitor=$!
pid=$(property MainPID)
sleep 1
dpkg --install package.deb >said 2>&1
version_is "$(dpkg-deb --field package.deb Version)"
until_true 20 another_pid_than "$pid"
vipd status | grep -c 'adopted from an earlier agent' | grep -qx 2
sleep 1
# By this signal ping prints its count.
kill -INT "${clients[@]}"
wait "${clients[@]}"
kill "$monitor"
for address in 10.20.0.100 10.20.0.101; do
    grep 'packets transmitted' "ping.$address"
    grep -q ' 0% packet loss' "ping.$address" || { grep -v ' bytes from ' "ping.$address"; cat log; exit 1; }
    # That it asked for long enough to notice.
    (($(grep -c ' bytes from ' "ping.$address") > 100))
done
if grep Deleted addresses; then
    exit 1
fi
echo "upgraded: no probe lost, no address removed"

systemctl stop vipd
dpkg --install package.deb >said 2>&1
! active
echo "installed again while it was stopped: stays stopped"
systemctl start vipd
until_true 20 carries 10.20.0.100

dpkg --remove vipd >said 2>&1
for address in 10.20.0.100 2001:db8:20::100 10.20.0.101; do
    bare_of "$address"
done
[[ -z $(ip link show type macvlan) ]]
[[ -z $(nft list tables) ]]
[[ -e /etc/vipd/vipd.toml ]]
echo "removed: gives its addresses up, keeps its configuration"

dpkg --install package.deb >said 2>&1
until_true 20 carries 10.20.0.100
echo "installed anew: starts with the configuration that was kept"

[[ $(systemctl is-enabled vipd-drill.timer) == disabled ]]
systemctl enable --now vipd-drill.timer
# Nobody is there to hand over to: the addresses stay, and the drill has failed.
! systemctl start vipd-drill.service
systemctl is-failed --quiet vipd-drill.service
carries 10.20.0.100
echo "drill: disabled until it is wanted, and says what does not work"

dpkg --purge vipd >said 2>&1
systemctl daemon-reload
inventory >after
diff before after
echo "purged: no file, user, group, table, address or changed setting is left"
CHECK

cat >"$work/prepare" <<'PREPARE'
#!/bin/bash
set -euo pipefail
install -m 644 "$2" "$1/vipd-service-test/earlier.deb"
install -m 644 "$3" "$1/vipd-service-test/package.deb"
PREPARE

tests/under-systemd.sh "$work/prepare" "$work/check" "$work/earlier.deb" "$package"
