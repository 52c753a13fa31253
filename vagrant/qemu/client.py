"""The client: asks for addresses a hundred times a second, and keeps who answered when.

It asks in two ways. Echo requests go through this namespace's kernel and its neighbour table, as any program's packets do: they
tell how long the address was away. ARP requests are our own, broadcast, from an address that nobody has: each owner
there is answers them, and the kernel's table learns nothing from it. They tell who answers, and whether two do.

Each ARP request comes from a MAC address of its own, to which it is answered: so it is known when what is answered was asked.
"""

import dataclasses
import itertools
import os
import select
import socket
import struct
import threading
import time

PERIOD_S = 0.01
# Who has lost an address listens for longer before it takes it again.
BACK_S = 0.25
# ARP requests come from one of so many IP addresses, beginning there: few, so that the hosts' tables stay small.
FIRST_SENDER, SENDERS = 111, 100
# Their MAC addresses: this, and the sequence.
ASKING_MAC = bytes.fromhex("52540afe")
ECHO_ID, SEQUENCES = 0x7670, 65536

ETH_P_ALL, ETH_P_ARP, ETH_P_8021Q = 3, 0x0806, 0x8100
PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC, SOL_PACKET = 1, 1, 263
SO_TIMESTAMPNS = 35


@dataclasses.dataclass(frozen=True)
class Target:
    """An address that is asked for, on a segment; in a VLAN by ARP alone, where this machine's kernel may know none."""

    address: str
    segment: str
    vlan: int | None = None


@dataclasses.dataclass
class Turn:
    """A host answers, and no other meanwhile: from its first answer to its last, seconds since the mark."""

    host: str
    begin: float
    end: float


@dataclasses.dataclass
class Seen:
    """What was seen of one address in a time."""

    # Longest time without an answer, seconds; with the beginning and the end of the time counting as answers.
    away_s: float
    # Echo requests that were never answered; nothing is known of a VLAN.
    lost: int
    # Who answered, one host after the other.
    turns: list
    # ARP requests of before the time that counts, which were answered after the mark.
    late: int

    @property
    def hosts(self):
        """Who answered, one after the other."""
        return [turn.host for turn in self.turns]

    @property
    def two_owners(self):
        """Whether a host answered between two answers of another one which had no time to lose the address and take it again."""
        return any(one.host == again.host and again.begin - one.end < BACK_S for one, again in zip(self.turns, self.turns[2:]))

    def __str__(self):
        return ", ".join(f"{turn.host} from {turn.begin:.3f} to {turn.end:.3f} s" for turn in self.turns) or "nobody"


class Client(threading.Thread):
    """Asks for all `targets` from `start` on until `stop`. `host_of` names the host that a MAC address belongs to; it may have several."""

    def __init__(self, targets, host_of):
        super().__init__(daemon=True)
        self._targets = targets
        self._host_of = host_of
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        # For each address: (when, sequence) of what was asked and of the echoes, and (when, when it was asked, host) of ARP.
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
            packets.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
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
            return {host for _, asked, host in self._arps[address] if asked > time.monotonic() - since_s}

    def seen(self, target, asked_since=0.0, delayed=False):
        """What was seen of an address since the mark. The last moment is left out: its answers may be on their way. Answers to
        what was asked before `asked_since` are counted, and say nothing of who owns. `delayed` are answers that a network
        brings in another order than they were sent in: they are taken as given when they were asked for."""
        with self._lock:
            begin, end = self._marked_at, time.monotonic() - 0.1
            asked = {sequence for at, sequence in self._asked[target.address] if begin <= at <= end}
            received = sorted(arp for arp in self._arps[target.address] if begin <= arp[0])
            echoes = [echo for echo in self._echoes[target.address] if begin <= echo[0]]
        arps = [arp for arp in received if arp[1] >= asked_since]
        answers = [answer[0] for answer in (echoes if target.vlan is None else arps)]
        instants = [begin, *answers, max(end, answers[-1] if answers else end)]
        if delayed:
            arps = sorted((asked, asked, host) for _, asked, host in arps)
        return Seen(
            away_s=max(after - before for before, after in zip(instants, instants[1:])),
            lost=len(asked - {sequence for _, sequence in echoes}) if target.vlan is None else 0,
            turns=turns([(at - begin, host) for at, _, host in arps]),
            late=len(received) - len(arps),
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
                    packet, control, _, sender = ready.recvmsg(2048, socket.CMSG_SPACE(16))
                except OSError:
                    break
                if ready is self._icmp:
                    self._on_icmp(packet, sender[0])
                else:
                    self._on_frame(packet, received_at(control))

    def _on_icmp(self, packet, address):
        # An echo reply behind an IPv4 header.
        if len(packet) >= 28 and packet[20] == 0 and packet[24:26] == struct.pack("!H", ECHO_ID) and address in self._echoes:
            with self._lock:
                self._echoes[address].append((time.monotonic(), struct.unpack("!H", packet[26:28])[0]))

    def _on_frame(self, frame, at):
        # An ARP reply to us; the kernel has taken the VLAN's tag off.
        if len(frame) < 42 or frame[:4] != ASKING_MAC or frame[12:14] != struct.pack("!H", ETH_P_ARP) or frame[21] != 2:
            return
        address, sequence = socket.inet_ntoa(frame[28:32]), struct.unpack("!H", frame[4:6])[0]
        if address in self._arps:
            with self._lock:
                # The last that was asked with this sequence.
                asked = next(when for when, which in reversed(self._asked[address]) if which == sequence)
                self._arps[address].append((at, asked, self._host_of(frame[22:28].hex(":"))))


def received_at(control):
    """When the kernel received a packet, by the monotonic clock: this thread may read it later."""
    _, _, stamp = control[0]
    seconds, nanoseconds = struct.unpack("qq", stamp)
    return time.monotonic() - (time.time() - seconds - nanoseconds / 1e9)


def turns(answers):
    """The answers, each with when and by whom, as turns."""
    runs = (list(run) for _, run in itertools.groupby(answers, key=lambda answer: answer[1]))
    return [Turn(host=run[0][1], begin=run[0][0], end=run[-1][0]) for run in runs]


def arp_request(target, sequence):
    """Who has the address? Asked from another one of the same network."""
    address = socket.inet_aton(target.address)
    sender = address[:3] + bytes([FIRST_SENDER + sequence % SENDERS])
    mac = ASKING_MAC + struct.pack("!H", sequence % SEQUENCES)
    tag = b"" if target.vlan is None else struct.pack("!HH", ETH_P_8021Q, target.vlan)
    arp = struct.pack("!HHHBBH6s4s6s4s", ETH_P_ARP, 1, 0x0800, 6, 4, 1, mac, sender, bytes(6), address)
    return b"\xff" * 6 + mac + tag + arp


def echo_request(sequence):
    """An ICMP echo request."""
    sequence %= SEQUENCES
    header = struct.pack("!BBHHH", 8, 0, 0, ECHO_ID, sequence)
    total = sum(struct.unpack("!4H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, ECHO_ID, sequence)
