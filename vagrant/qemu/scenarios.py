"""What is tried on the hosts. A scenario finds two hosts whose first one owns all addresses, and leaves them so.

Each returns what it measured, as text for the table, or raises `LabError`. What is measured in an emulated host on a busy
machine is printed; what has to hold on any machine is required. Precise figures are for `vipd lab`, on one kernel.
"""

import contextlib
import time

from client import Client, Target
from hosts import LabError, TwoOwners

MAIN = Target("10.77.0.100", "front")
BOND = Target("10.78.0.100", "bonded")
VLAN = Target("10.80.0.100", "bonded", vlan=30)
VRF = Target("10.79.0.100", "routed")

# A client is away for less than the first when a host is killed, at default settings (adverts of 100 ms). Past the second it is a fault
# even where hosts are emulated and have to wait for their turn; between the two the table says so.
AWAY_S, AWAY_EMULATED_S = 0.5, 1.0
# How long a host may take to do what takes it a second.
SOON_S = 60
WATCHDOG_S = 5
# How often something is tried that a machine which is too busy spoils.
ATTEMPTS = 3


class Lab:
    """Two hosts, and what is known of them."""

    def __init__(self, hosts, versions, say):
        self.hosts = hosts
        self.earlier, self.version = versions
        self.say = say
        self.vips = PLAIN
        # What was there before the package, by host.
        self.inventories = {}

    @property
    def targets(self):
        """The addresses of all vips."""
        return [target for _, _, target in self.vips]

    @property
    def first(self):
        """The host with the higher priority."""
        return self.hosts[0]

    @property
    def second(self):
        """The host that follows it."""
        return self.hosts[1]

    @contextlib.contextmanager
    def client(self, targets=None):
        """A client that asks for the addresses, from when all of them are the first host's."""
        client = Client(targets or self.targets, lambda mac: f"host{int(mac[-2:], 16)}")
        client.start()
        try:
            self.settle(client, self.first)
            client.mark()
            yield client
        finally:
            client.stop()

    def recover(self):
        """What a scenario finds, however the one before it ended."""
        for host in self.hosts:
            host.thaw()
            if host.is_running() and not host.answers():
                self.say(f"{host.name} does not answer: switched off and on")
                host.kill()
            if not host.is_running():
                host.start()
        for host in self.hosts:
            host.wait_until_ready()
            host.run(f"tc qdisc del dev eth0 root 2>/dev/null || true; rm -rf {' '.join(WATCHDOG_FILES)}")
            host.write("/etc/vipd/vipd.toml", configuration(host, self.vips))
            host.run("systemctl daemon-reload; systemctl restart vipd; vipd undrain")
        with self.client():
            pass

    def settle(self, client, owner, timeout=SOON_S):
        """Until `owner` alone has answered for all addresses, for half a second."""
        deadline = time.monotonic() + timeout
        while True:
            answers = {target.address: client.answers(target.address) for target in self.targets}
            if all(hosts == {owner.name} for hosts in answers.values()):
                return
            if time.monotonic() > deadline:
                raise LabError(f"{owner.name} does not answer alone within {timeout} s; who does: {answers}")
            time.sleep(0.05)

    def moved(self, client, old, new, asked_since=0.0):
        """How long each address was away when it went from one host to the other: not for long, and two hosts did not answer."""
        away = []
        for target in self.targets:
            seen = client.seen(target, asked_since)
            not_twice(target, seen)
            if seen.hosts != [old.name, new.name]:
                raise LabError(f"{target.address} went from {old.name} to {new.name} otherwise than at once: {seen}")
            away.append(self.not_long(client, target, seen))
        text = "away for " + " / ".join(seconds(figure) for figure in away)
        if max(away) > AWAY_S:
            text += f" (more than {AWAY_S} s: emulated{', and without a processor meanwhile' if self.was_starved() else ''})"
        return text

    def not_long(self, client, target, seen):
        """How long an address was away. What this machine did not let the client or a host do is no fault of the hosts."""
        if seen.away_s > AWAY_EMULATED_S + client.late_s() and not self.was_starved():
            raise LabError(f"{target.address} was away for {seconds(seen.away_s)}; the client was late by {seconds(client.late_s())} at most")
        return seen.away_s

    def at_most_a_takeover(self, client):
        """What a restart cost. An agent that starts within its lease, 3 s after a stop for a restart, loses nothing; one that takes longer is succeeded."""
        seen = [client.seen(target) for target in self.targets]
        for target, each in zip(self.targets, seen):
            not_twice(target, each)
        away = [self.not_long(client, *each) for each in zip(self.targets, seen)]
        lost = sum(each.lost for each in seen)
        return f"{lost} requests lost, away for {seconds(max(away))}" if lost else "nothing lost"

    def undisturbed(self, step, apart=()):
        """No request is lost and no address moves in this step, but for the targets `apart`, which may move as at a takeover.
        Done again where the owner had no processor, which moves it too."""
        for _ in range(ATTEMPTS):
            with self.client() as client:
                step()
                time.sleep(2)
                if apart:
                    self.settle(client, self.first)
                seen = {target: client.seen(target) for target in self.targets}
            for target, each in seen.items():
                not_twice(target, each)
            wrong = [each for target, each in seen.items() if target not in apart and (each.lost or len(each.turns) != 1)]
            if not wrong:
                return f"nothing lost{''.join(f', {target.address} away for {seconds(seen[target].away_s)}' for target in apart)}"
            if not self.was_starved():
                raise LabError(f"{wrong[0].lost} requests lost, away for {seconds(wrong[0].away_s)}, answered by {wrong[0]}")
            self.say("again: the owner had no processor for longer than its lease")
        return f"NOT MEASURED, {ATTEMPTS} times the owner had no processor for longer than its lease"

    def was_starved(self):
        """Whether an agent lost its lease lately because nothing ran on its host. To lose it is right, but tells nothing of what is tried."""
        events = "".join(host.run("vipd events --since 1m") for host in self.hosts if host.is_running())
        return "could not run for" in events or "the kernel ended the lease" in events


def not_twice(target, seen):
    """Two hosts did not answer for an address."""
    if seen.two_owners:
        raise TwoOwners(f"{target.address} was answered for by two hosts: {seen}")


def seconds(value):
    """For the table."""
    return f"{value:.2f} s"


# --- configuration ---


def priority(host):
    """The first host is the owner while it lives."""
    return 150 if host.number == 1 else 100


def configuration(host, vips, extra=""):
    """As the README has it: two files that differ in name and priority."""
    text = f'[node]\nname = "{host.name}"\n{extra}'
    for number, (name, interface, target) in enumerate(vips):
        text += (
            f'\n[[vip]]\nname      = "{name}"\ninterface = "{interface}"\nvrid      = {51 + number}\n'
            f'priority  = {150 if host.number == 1 else 100}\naddresses = ["{target.address}/24"]\n'
        )
    return text


PLAIN = [("main", "eth0", MAIN)]
ALL = [*PLAIN, ("bond", "bond0", BOND), ("vlan", "bond0.30", VLAN), ("vrf", "eth3", VRF)]

# Nothing but what keepalived cannot do without.
KEEPALIVED = """vrrp_instance main {{
    interface eth0
    virtual_router_id 51
    priority {priority}
    virtual_ipaddress {{
        {address}/24
    }}
}}
"""

# systemd-networkd's files, as on a host that it manages. `KEEP` marks those whose interface has a vip.
KEEP = "# carries a vip\n"
NETWORK = {
    "10-eth0.network": KEEP + "[Match]\nName=eth0\n[Network]\nAddress=10.77.0.{n}/24\n",
}
INTERFACES = {
    "20-bond0.netdev": "[NetDev]\nName=bond0\nKind=bond\nMACAddress=52:54:00:77:01:{n:02x}\n[Bond]\nMode=active-backup\nMIIMonitorSec=100ms\n",
    "20-slaves.network": "[Match]\nName=eth1 eth2\n[Network]\nBond=bond0\n",
    "20-bond0.network": KEEP + "[Match]\nName=bond0\n[Network]\nAddress=10.78.0.{n}/24\nVLAN=bond0.30\n",
    "30-vlan.netdev": "[NetDev]\nName=bond0.30\nKind=vlan\n[VLAN]\nId=30\n",
    "30-vlan.network": KEEP + "[Match]\nName=bond0.30\n[Network]\nAddress=10.80.0.{n}/24\n",
    "40-red.netdev": "[NetDev]\nName=red\nKind=vrf\n[VRF]\nTable=10\n",
    "40-red.network": "[Match]\nName=red\n[Network]\nConfigureWithoutCarrier=yes\n",
    "40-eth3.network": KEEP + "[Match]\nName=eth3\n[Network]\nVRF=red\nAddress=10.79.0.{n}/24\n",
}


def write_network(host, files):
    """Files for systemd-networkd, with the package's drop-in where it is asked for (and there)."""
    for name, text in files.items():
        host.write(f"/etc/systemd/network/{name}", text.format(n=host.number))
        if text.startswith(KEEP):
            host.run(
                f"keep=/usr/share/doc/vipd/examples/networkd/keep-addresses.conf\n"
                f"if [ -e $keep ]; then install -D -m 644 $keep /etc/systemd/network/{name}.d/vipd.conf; fi"
            )


# What a package can leave behind; what the system itself writes is left out.
INVENTORY = r"""
find /etc /usr /var /run -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/var/cache/*' -not -path '/etc/*-' \
    -not -path '/run/*/*' -not -path '/var/lib/systemd/*' -not -path '/var/tmp/*' -not -path '/run/lab-shell.output' \
    -not -path '/etc/systemd/network*' -not -path '/var/lib/NetworkManager*' -not -path '/run/[^v]*' \
    -not -path '/usr/lib/modules/*' | sort
cut -d: -f1 /etc/passwd /etc/group
nft list tables
ip -oneline address show dev eth0 | cut -d'\' -f1 | sed 's/ *valid_lft.*//; s/ tentative//'
ip -oneline link show type macvlan
pgrep -a vipd || true
sysctl --all --pattern '^net\.(ipv[46]\.conf\.(all|default|eth0)|core)\.' 2>/dev/null
true
"""


# --- scenarios ---


def installed(lab):
    """Package, two files, systemctl start"""
    for host in lab.hosts:
        host.run(f"hostnamectl set-hostname {host.name} || hostname {host.name}; mkdir -p /packages; tar -C /packages -xf /dev/vdb")
        write_network(host, NETWORK)
        host.run("networkctl reload; networkctl reconfigure eth0")
        host.until(f"ip address show eth0 | grep -q 'inet 10.77.0.{host.number}/'")
        # Once, so that modules that are loaded by it and stay are no difference.
        host.run("nft list tables")
        lab.inventories[host.name] = host.run(INVENTORY)
        said = host.run("dpkg --install /packages/earlier.deb", timeout=2 * SOON_S)
        if "vipd is not started: it has no configuration" not in said:
            raise LabError(f"the package does not say that the service is not started:\n{said}")
        code, _ = host.try_run("systemctl is-active vipd")
        if code == 0:
            raise LabError("the service is started without a configuration")
        # The README: an interface that systemd-networkd manages needs a drop-in.
        write_network(host, NETWORK)
        host.run("networkctl reload")
        host.write("/etc/vipd/vipd.toml", configuration(host, PLAIN))
        host.run("vipd check")
    for host in lab.hosts:
        host.run("systemctl start vipd")
    lab.undisturbed(lambda: None)
    layer = lab.first.run("vipd status --json | grep -o '\"lease_layer\": *\"[^\"]*\"'").split('"')[3]
    return f"host1 owns, host2 listens; lease enforced by {layer}"


def upgraded(lab):
    """Upgrade from the previous package"""
    with lab.client() as client:
        for host in (lab.second, lab.first):
            pid = host.run("systemctl show --value --property MainPID vipd")
            host.run("dpkg --install /packages/package.deb", timeout=2 * SOON_S)
            host.until(f"[ $(systemctl show --value --property MainPID vipd) != {pid.strip()} ] && vipd status")
            version = host.run("dpkg-query --show --showformat '${Version}' vipd")
            if version != lab.version:
                raise LabError(f"{host.name} has version {version}")
        time.sleep(2)
        lab.settle(client, lab.first)
        return f"{lab.earlier} to {lab.version} on both: {lab.at_most_a_takeover(client)}"


def restarted(lab):
    """Restart of both agents"""
    with lab.client() as client:
        for host in (lab.second, lab.first):
            host.run("systemctl restart vipd")
        time.sleep(2)
        lab.settle(client, lab.first)
        return lab.at_most_a_takeover(client)


def killed(lab):
    """Host killed (power off), default settings"""
    with lab.client() as client:
        time.sleep(1)
        lab.first.kill()
        lab.settle(client, lab.second)
        figures = lab.moved(client, lab.first, lab.second)
        client.mark()
        lab.first.start()
        lab.first.wait_until_ready()
        lab.settle(client, lab.first)
        return f"{figures}; back: {lab.moved(client, lab.second, lab.first)}"


def keepalived(lab):
    """The same with keepalived at its defaults"""
    for host in lab.hosts:
        host.run("systemctl stop vipd")
        host.write("/etc/keepalived/keepalived.conf", KEEPALIVED.format(priority=priority(host), address=MAIN.address))
        host.run("systemctl start keepalived")
    with lab.client() as client:
        time.sleep(1)
        lab.first.kill()
        lab.settle(client, lab.second)
        away = client.seen(MAIN).away_s
    lab.second.run("systemctl stop keepalived; systemctl start vipd")
    lab.first.start()
    lab.first.wait_until_ready()
    for host in lab.hosts:
        host.run("rm -f /etc/keepalived/keepalived.conf")
    return f"away for {seconds(away)}"


def frozen(lab):
    """Host frozen for 10 s and thawed"""
    with lab.client() as client:
        time.sleep(1)
        frozen_at = lab.first.freeze()
        try:
            lab.settle(client, lab.second)
            time.sleep(8)
            figures = lab.moved(client, lab.first, lab.second)
            client.mark()
        finally:
            lab.first.thaw()
        lab.settle(client, lab.first)
        # What it was about to answer when it froze goes out when it goes on, as from a slow switch: it was asked while it owned.
        late = sum(client.seen(target, frozen_at).late for target in lab.targets)
        back = lab.moved(client, lab.second, lab.first, frozen_at)
        return f"{figures}; thawed: {back}; answers of before the freeze that went out now: {late}"


def reload(host, vips):
    """Other vips for a running agent."""
    host.write("/etc/vipd/vipd.toml", configuration(host, vips))
    host.run("systemctl reload vipd")


def interfaces(lab):
    """Bond, VLAN on it, VRF: reload adds them"""
    for host in lab.hosts:
        write_network(host, INTERFACES)
        host.run("networkctl reload; networkctl reconfigure eth1 eth2 eth3")
        for name, target in (("bond0", BOND), ("bond0.30", VLAN), ("eth3", VRF)):
            network = target.address.rsplit(".", 1)[0]
            host.until(f"ip address show {name} | grep -q 'inet {network}.{host.number}/'")
        host.run("ip link show eth3 | grep -q 'master red'")
    lab.undisturbed(lambda: [reload(host, ALL) for host in lab.hosts])
    lab.vips = ALL
    with lab.client() as client:
        active = lab.first.run("cat /sys/class/net/bond0/bonding/active_slave").strip()
        lab.first.set_carrier(int(active[-1]), False)
        lab.first.until(f"[ $(cat /sys/class/net/bond0/bonding/active_slave) != {active} ]")
        time.sleep(1)
        figures = [client.seen(target) for target in (BOND, VLAN)]
        if any(len(seen.turns) != 1 for seen in figures):
            raise LabError(f"an address moved when the bond's active link was unplugged: {', '.join(map(str, figures))}")
        lab.first.set_carrier(int(active[-1]), True)
        return f"4 vips; the bond's active link unplugged: stays, away for {seconds(max(seen.away_s for seen in figures))}"


def netem(lab):
    """5 % loss, 20 ms ± 10 ms of delay on both hosts"""
    # Of 200 adverts three in a row are lost in one run of forty, and then the question whether the owner answers, or its answer, in
    # one of ten: a partition, in which both may own. At 10 % that would be one run of thirty.
    with lab.client() as client:
        try:
            for host in lab.hosts:
                host.run("tc qdisc replace dev eth0 root netem loss 5% delay 20ms 10ms")
            time.sleep(20)
            seen = client.seen(MAIN, delayed=True)
        finally:
            for host in lab.hosts:
                host.run("tc qdisc del dev eth0 root")
    if seen.lost == 0:
        raise LabError("no request was lost: netem does nothing")
    not_twice(MAIN, seen)
    return f"20 s: {seen.lost} of the client's requests lost; two hosts never answered"


def managers(lab):
    """systemd-networkd and NetworkManager restarted"""
    def restart_networkd():
        for host in lab.hosts:
            host.run("systemctl restart systemd-networkd")
            host.until("networkctl list eth0 --no-legend | grep -q configured")

    def restart_network_manager():
        for host in lab.hosts:
            host.run("systemctl restart NetworkManager", timeout=2 * SOON_S)
            host.until("nmcli --terse --fields DEVICE,STATE device | grep -q eth0:unmanaged")

    for host in lab.hosts:
        # As the package's example says; the interfaces' own addresses stay with systemd-networkd.
        host.run(
            "for interface in eth0 eth1 eth2 bond0 bond0.30 eth3; do\n"
            "sed s/INTERFACE/$interface/ /usr/share/doc/vipd/examples/NetworkManager/vipd-interface.conf"
            " >/etc/NetworkManager/conf.d/vipd-$interface.conf; done\n"
            "systemctl start NetworkManager",
            timeout=2 * SOON_S,
        )
    # Debian 12's systemd-networkd takes the ports of a bond down and up when it begins anew (systemd issue 31165).
    networkd = lab.undisturbed(restart_networkd, apart=(BOND, VLAN))
    network_manager = lab.undisturbed(restart_network_manager)
    for host in lab.hosts:
        if "another program removed" in host.run("vipd events"):
            raise LabError(f"{host.name}: a manager removed an address")
    return f"on both hosts: systemd-networkd: {networkd}; NetworkManager: {network_manager}"


def watchdog(lab):
    """softdog: agent stopped for good, cannot withdraw"""
    host = lab.first
    host.run(
        "modprobe softdog; echo softdog >/etc/modules-load.d/vipd-lab.conf\n"
        "echo 'SUBSYSTEM==\"misc\", KERNEL==\"watchdog\", GROUP=\"vipd\", MODE=\"0660\"' >/etc/udev/rules.d/60-vipd-watchdog.rules\n"
        "udevadm control --reload; udevadm trigger --settle /dev/watchdog; chgrp vipd /dev/watchdog; chmod 660 /dev/watchdog"
    )
    host.write("/etc/systemd/system/vipd.service.d/watchdog.conf", WATCHDOG_DROP_IN)
    extra = f'[fence.self]\nwatchdog = "/dev/watchdog"\ntimeout  = "{WATCHDOG_S}s"\n'
    host.write("/etc/vipd/vipd.toml", configuration(host, lab.vips, extra))
    host.run("systemctl daemon-reload; vipd check; systemctl restart vipd")
    host.until("grep -qx active /sys/class/watchdog/watchdog0/state")
    boot = host.wait_until_ready()
    with lab.client() as client:
        begun = time.monotonic()
        host.run("systemctl kill --kill-who=main --signal=STOP vipd")
        lab.settle(client, lab.second)
        figures = lab.moved(client, host, lab.second)
        client.mark()
        host.wait_until_ready(unlike_boot=boot)
        took = time.monotonic() - begun
        # A host that went down as the owner may have been fenced: it keeps out until somebody has looked.
        host.until("vipd status | grep -q 'went down while it was the owner'")
        host.run("vipd undrain")
        lab.settle(client, host)
        lab.moved(client, lab.second, host)
    host.run(f"rm -r {' '.join(WATCHDOG_FILES)}")
    host.write("/etc/vipd/vipd.toml", configuration(host, lab.vips))
    host.run("systemctl daemon-reload; systemctl restart vipd")
    return f"{figures}; reset by softdog ({WATCHDOG_S} s), up again after {seconds(took)}, kept out until undrain"


# What `watchdog` adds to a host.
WATCHDOG_FILES = ["/etc/systemd/system/vipd.service.d", "/etc/udev/rules.d/60-vipd-watchdog.rules", "/etc/modules-load.d/vipd-lab.conf"]
# Beside what the package's own drop-in has: systemd does not begin the agent anew, so that it stays stopped.
WATCHDOG_DROP_IN = """[Service]
PrivateDevices=no
DeviceAllow=/dev/watchdog rw
WatchdogSec=0
"""


def rebooted(lab):
    """Both hosts rebooted at once"""
    boots = {host.name: host.wait_until_ready() for host in lab.hosts}
    with lab.client() as client:
        for host in lab.hosts:
            host.reboot()
        for host in lab.hosts:
            host.wait_until_ready(unlike_boot=boots[host.name])
        lab.settle(client, lab.first)
        for target in lab.targets:
            not_twice(target, client.seen(target))
        return f"the address answers again after {seconds(client.seen(MAIN).away_s)}"


def purged(lab):
    """Purge"""
    for host in lab.hosts:
        host.run("dpkg --purge vipd", timeout=2 * SOON_S)
        host.run("systemctl daemon-reload; rm -f /etc/NetworkManager/conf.d/vipd-*.conf /etc/modules-load.d/vipd-lab.conf; rm -rf /packages")
        before, after = lab.inventories[host.name].splitlines(), host.run(INVENTORY).splitlines()
        if sorted(before) != sorted(after):
            gone = [line for line in before if line not in after]
            left = [line for line in after if line not in before]
            raise LabError(f"{host.name}: left behind: {left}; gone: {gone}")
    return "no file, user, process, nftables table, address or sysctl is left"


SCENARIOS = [installed, upgraded, restarted, killed, keepalived, interfaces, frozen, netem, managers, watchdog, rebooted, purged]
# What cannot be done to the same hosts again.
ONCE = [installed, purged]
