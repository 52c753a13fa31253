"""The client: asks for addresses a hundred times a second, and keeps who answered when.

It asks in two ways. Echo requests go through this namespace's kernel and its neighbour table, as any program's packets do: they
tell how long the address was away. ARP requests are our own, broadcast, from an address that nobody has: each owner
there is answers them, and the kernel's table learns nothing from it. They tell who answers, and whether two do.
"""

import dataclasses
import os
import select
import socket
import struct
import threading
import time

PERIOD_S = 0.01
# ARP requests are told apart by the address that they come from, which is a small one, so that the hosts' tables stay small too: one of
# so many, beginning there. The next round begins long after an answer could come.
FIRST_TOKEN, TOKENS = 111, 100
PROBE_MAC = bytes.fromhex("525400770afe")
ECHO_ID, SEQUENCES = 0x7670, 65536

ETH_P_ALL, ETH_P_ARP, ETH_P_8021Q = 3, 0x0806, 0x8100
PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC, SOL_PACKET = 1, 1, 263


@dataclasses.dataclass(frozen=True)
class Target:
    """An address that is asked for, on a segment; in a VLAN by ARP alone, where this machine's kernel may know none."""

    address: str
    segment: str
    vlan: int | None = None


@dataclasses.dataclass
class Seen:
    """What was seen of one address in a time."""

    # Longest time without an answer, seconds; with the beginning and the end of the time counting as answers.
    away_s: float
    # Echo requests that were never answered; nothing is known of a VLAN.
    lost: int
    # Whose answers, one after the other.
    owners: list
    # ARP requests that two hosts answered.
    both: int
    # When each host answered first and last, and how often, by its address.
    spans: dict
    counts: dict

    def answers(self, number):
        """How many ARP requests a host answered."""
        return sum(count for mac, count in self.counts.items() if host_number(mac) == number)

    def overlap_s(self, old, new):
        """For how long two hosts answered, when the address went from one to the other; negative where neither did."""
        return self.spans[old][1] - self.spans[new][0] if old in self.spans and new in self.spans else 0.0


class Client(threading.Thread):
    """Asks for all `targets` from `start` on until `stop`."""

    def __init__(self, targets):
        super().__init__(daemon=True)
        self._targets = targets
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        # For each address: (when, sequence) of what was asked and of the echoes, and (when, token, MAC) of ARP.
        self._asked = {target.address: [] for target in targets}
        self._echoes = {target.address: [] for target in targets}
        self._arps = {target.address: [] for target in targets}
        # How late this thread was, at most, since the last `mark`.
        self._late_s = 0.0
        self._marked_at = time.monotonic()
        self._packets = {}
        for segment in {target.segment for target in targets}:
            packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            packets.bind((segment, 0))
            membership = struct.pack("iHH8s", socket.if_nametoindex(segment), PACKET_MR_PROMISC, 0, b"")
            packets.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
            packets.setblocking(False)
            self._packets[segment] = packets
        self._icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._icmp.setblocking(False)

    # --- what was seen ---

    def mark(self):
        """What is asked about begins here."""
        with self._lock:
            self._marked_at = time.monotonic()
            self._late_s = 0.0

    def late_s(self):
        """How late this client was itself, at most, since the mark."""
        with self._lock:
            return self._late_s

    def answers(self, address, since_s=0.5):
        """Who answered lately."""
        with self._lock:
            return {mac for at, _, mac in self._arps[address] if at > time.monotonic() - since_s}

    def seen(self, target):
        """What was seen of an address since the mark. The last moment is left out: its answers may be on their way."""
        with self._lock:
            begin, end = self._marked_at, time.monotonic() - 0.1
            asked = {sequence for at, sequence in self._asked[target.address] if begin <= at <= end}
            arps = [arp for arp in self._arps[target.address] if begin <= arp[0]]
            echoes = [echo for echo in self._echoes[target.address] if begin <= echo[0]]
        answers = [answer[0] for answer in (echoes if target.vlan is None else arps)]
        instants = [begin, *answers, max(end, answers[-1] if answers else end)]
        owners, both, last, spans, counts = [], 0, {}, {}, {}
        for at, token, mac in arps:
            counts[mac] = counts.get(mac, 0) + 1
            spans[mac] = (spans.get(mac, (at,))[0], at)
            if not owners or owners[-1] != mac:
                owners.append(mac)
            earlier = last.get(token)
            if earlier is not None and host_number(earlier[1]) != host_number(mac) and at - earlier[0] < TOKENS * PERIOD_S / 2:
                both += 1
            last[token] = (at, mac)
        return Seen(
            away_s=max(after - before for before, after in zip(instants, instants[1:])),
            lost=len(asked - {sequence for _, sequence in echoes}) if target.vlan is None else 0,
            owners=owners,
            both=both,
            spans=spans,
            counts=counts,
        )

    # --- asking ---

    def stop(self):
        """Ends the asking."""
        self._stopped.set()
        self.join()
        for packets in self._packets.values():
            packets.close()
        self._icmp.close()

    def run(self):
        # So that what is measured is the hosts and not this thread. Where that is refused, `late_s` tells.
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError:
            pass
        due, sequence = time.monotonic(), 0
        while not self._stopped.is_set():
            now = time.monotonic()
            if now >= due:
                with self._lock:
                    self._late_s = max(self._late_s, now - due)
                self._ask(sequence, now)
                sequence += 1
                # What could not be sent in time is not made good for.
                due = max(due + PERIOD_S, now)
            self._receive(max(0.0, due - time.monotonic()))

    def _ask(self, sequence, now):
        for target in self._targets:
            with self._lock:
                self._asked[target.address].append((now, sequence % SEQUENCES))
            try:
                self._packets[target.segment].send(arp_request(target, sequence))
                if target.vlan is None:
                    self._icmp.sendto(echo_request(sequence), (target.address, 0))
            except OSError:
                # No route to it, for the moment: not answered.
                pass

    def _receive(self, timeout):
        sockets = [self._icmp, *self._packets.values()]
        for ready in select.select(sockets, [], [], timeout)[0]:
            while True:
                try:
                    packet, sender = ready.recvfrom(2048)
                except OSError:
                    break
                if ready is self._icmp:
                    self._on_icmp(packet, sender[0])
                else:
                    self._on_frame(packet)

    def _on_icmp(self, packet, address):
        # An echo reply behind an IPv4 header.
        if len(packet) >= 28 and packet[20] == 0 and packet[24:26] == struct.pack("!H", ECHO_ID) and address in self._echoes:
            with self._lock:
                self._echoes[address].append((time.monotonic(), struct.unpack("!H", packet[26:28])[0]))

    def _on_frame(self, frame):
        # An ARP reply to us; the kernel has taken the VLAN's tag off.
        if len(frame) < 42 or frame[:6] != PROBE_MAC or frame[12:14] != struct.pack("!H", ETH_P_ARP) or frame[21] != 2:
            return
        address = socket.inet_ntoa(frame[28:32])
        if address in self._arps:
            with self._lock:
                self._arps[address].append((time.monotonic(), frame[41], frame[22:28].hex(":")))


def host_number(mac):
    """Whose interface it is: a host may answer by several, each with its own address."""
    return int(mac[-2:], 16)


def arp_request(target, sequence):
    """Who has the address? Answered to one of our tokens, an address of the same network."""
    address = socket.inet_aton(target.address)
    token = address[:3] + bytes([FIRST_TOKEN + sequence % TOKENS])
    tag = b"" if target.vlan is None else struct.pack("!HH", ETH_P_8021Q, target.vlan)
    arp = struct.pack("!HHHBBH6s4s6s4s", ETH_P_ARP, 1, 0x0800, 6, 4, 1, PROBE_MAC, token, bytes(6), address)
    return b"\xff" * 6 + PROBE_MAC + tag + arp


def echo_request(sequence):
    """An ICMP echo request."""
    sequence %= SEQUENCES
    header = struct.pack("!BBHHH", 8, 0, 0, ECHO_ID, sequence)
    total = sum(struct.unpack("!4H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, ECHO_ID, sequence)
