#!/usr/bin/python3
"""Makes the golden packets with scapy, whose encoder owes nothing to ours.

    /usr/bin/python3 tests/golden/packets/make.py

writes one text file a packet, beside this script. Each line of a file holds the bytes of one field (or of bit fields
that share bytes), their offset, and what they say as scapy reads them back. `#` begins a remark. Needs Debian's
python3-scapy. What it wrote is compared with the Rust code by tests/packets.rs and with tshark by verify.py.
"""

import pathlib

from scapy.layers.inet import IP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vrrp import VRRP, VRRPv3
from scapy.utils import checksum

HERE = pathlib.Path(__file__).parent

HOST = "02:11:22:33:44:55"
VIRTUAL_V4 = "00:00:5e:00:01:33"
VIRTUAL_V6 = "00:00:5e:00:02:33"
ADDRESS = "10.20.0.100"
ADDRESS_V6 = "2001:db8:20::100"


def ipv4_advert(vrrp):
    """An advert of 10.20.0.1 with the virtual router MAC address of VRID 51."""
    return (
        Ether(src=VIRTUAL_V4, dst="01:00:5e:00:00:12")
        / IP(src="10.20.0.1", dst="224.0.0.18", tos=0xC0, id=0, flags="DF", ttl=255, proto=112)
        / vrrp
    )


def ipv6_advert(vrrp):
    """The same over IPv6."""
    return (
        Ether(src=VIRTUAL_V6, dst="33:33:00:00:00:12")
        / IPv6(src="fe80::1", dst="ff02::12", tc=0xC0, hlim=255, nh=112)
        / vrrp
    )


def alone(vrrp):
    """scapy always adds the pseudo-header to version 3; this is the checksum over the message alone."""
    vrrp.chksum = 0
    # Outside of an IP packet scapy does not know the addresses' family, so they are added by hand.
    addresses = bytes(map(int, ".".join(vrrp.addrlist).split(".")))
    head = bytes([0x31, vrrp.vrid, vrrp.priority, len(vrrp.addrlist)]) + vrrp.adv.to_bytes(2, "big") + bytes(2)
    vrrp.chksum = checksum(head + addresses)
    return vrrp


def packets():
    """Name, remark, packet."""
    two = ["10.20.0.100", "10.20.0.101"]
    two_v6 = ["fe80::200:5eff:fe00:233", ADDRESS_V6]
    secret = {"authtype": 1, "auth1": int.from_bytes(b"secr", "big"), "auth2": int.from_bytes(b"et\0\0", "big")}
    v3 = {"vrid": 51, "priority": 150, "adv": 100}
    return [
        (
            "v2-no-auth",
            "VRRPv2 without authentication: its eight bytes are there all the same.",
            ipv4_advert(VRRP(vrid=51, priority=150, adv=1, addrlist=two)),
        ),
        (
            "v2-password",
            'VRRPv2 with the simple text password "secret".',
            ipv4_advert(VRRP(vrid=51, priority=150, adv=3, addrlist=[ADDRESS], **secret)),
        ),
        (
            "v3-ipv4-rfc9568",
            "VRRPv3 over IPv4, the checksum over the message alone.",
            ipv4_advert(alone(VRRPv3(addrlist=two, **v3))),
        ),
        (
            "v3-ipv4-rfc5798",
            "VRRPv3 over IPv4, the checksum with a pseudo-header.",
            ipv4_advert(VRRPv3(addrlist=two, **v3)),
        ),
        (
            "v3-ipv4-resign",
            "VRRPv3 over IPv4, priority 0: the sender gives up. The shortest interval.",
            ipv4_advert(alone(VRRPv3(vrid=51, priority=0, adv=1, addrlist=[ADDRESS]))),
        ),
        (
            "v3-ipv6",
            "VRRPv3 over IPv6: the first address is link-local. The longest interval.",
            ipv6_advert(VRRPv3(vrid=51, priority=255, adv=4095, addrlist=two_v6)),
        ),
        (
            "arp-gratuitous-request",
            "The sender has 10.20.0.100, said as a question.",
            Ether(src=HOST, dst="ff:ff:ff:ff:ff:ff")
            / ARP(op=1, hwsrc=HOST, psrc=ADDRESS, hwdst="00:00:00:00:00:00", pdst=ADDRESS),
        ),
        (
            "arp-gratuitous-reply",
            "The sender has 10.20.0.100, said as an answer.",
            Ether(src=HOST, dst="ff:ff:ff:ff:ff:ff") / ARP(op=2, hwsrc=HOST, psrc=ADDRESS, hwdst=HOST, pdst=ADDRESS),
        ),
        (
            "arp-probe",
            "Has anybody 10.20.0.100? From nobody.",
            Ether(src=HOST, dst="ff:ff:ff:ff:ff:ff")
            / ARP(op=1, hwsrc=HOST, psrc="0.0.0.0", hwdst="00:00:00:00:00:00", pdst=ADDRESS),
        ),
        (
            "nd-unsolicited-advertisement",
            "The sender has 2001:db8:20::100.",
            Ether(src=HOST, dst="33:33:00:00:00:01")
            / IPv6(src=ADDRESS_V6, dst="ff02::1", hlim=255)
            / ICMPv6ND_NA(R=1, S=0, O=1, tgt=ADDRESS_V6)
            / ICMPv6NDOptDstLLAddr(lladdr=HOST),
        ),
        (
            "nd-probe",
            "Has anybody 2001:db8:20::100? From nobody.",
            Ether(src=HOST, dst="33:33:ff:00:01:00")
            / IPv6(src="::", dst="ff02::1:ff00:100", hlim=255)
            / ICMPv6ND_NS(tgt=ADDRESS_V6),
        ),
    ]


# What a reader may want to know beyond the field's name and value.
REMARKS = {
    "IP.ihl": "words: no options",
    "IP.tos": "CS6, network control",
    "IP.len": "header and all",
    "IP.flags": "an atomic datagram, RFC 6864",
    "IP.ttl": "was not routed",
    "IP.proto": "VRRP",
    "IPv6.tc": "192 is CS6, network control",
    "IPv6.plen": "without this header",
    "IPv6.nh": "58 is ICMPv6, 112 VRRP",
    "IPv6.hlim": "was not routed",
    "VRRP.type": "advertisement",
    "VRRP.adv": "seconds",
    "VRRP.auth1": "authentication data, first half",
    "VRRP.auth2": "authentication data, second half",
    "VRRPv3.type": "advertisement",
    "VRRPv3.adv": "centiseconds",
    "ARP.hwtype": "Ethernet",
    "ARP.ptype": "IPv4",
    "ARP.op": "1 asks, 2 answers",
    "ICMPv6ND_NA.res": "reserved",
    "ICMPv6ND_NS.res": "reserved",
    "ICMPv6NDOptDstLLAddr.type": "target link-layer address",
    "ICMPv6NDOptDstLLAddr.len": "in units of 8 bytes",
}


def fields(packet):
    """What each byte says as scapy reads it: (bytes, text) in their order."""
    waiting = []
    for layer, described in reversed(packet.build_ps()[1]):
        for field, _, data in described:
            name = f"{type(layer).__name__}.{field.name}"
            value = layer.getfieldval(field.name)
            remark = f" ({REMARKS[name]})" if REMARKS.get(name) else ""
            if isinstance(value, list):
                size = len(data) // max(len(value), 1)
                for index, item in enumerate(value):
                    yield data[index * size :][:size], f"{name}[{index}] = {item}"
                continue
            in_hex = field.name in ("chksum", "cksum", "auth1", "auth2") or name in ("Ether.type", "ARP.ptype")
            text = f"{value:#06x}" if in_hex else f"{value}"
            waiting.append(f"{name} = {text}{remark}")
            # Bit fields come without bytes until the last that shares them.
            if data:
                yield data, ", ".join(waiting)
                waiting = []


def text(name, remark, frame):
    """The file of a frame, from its bytes alone."""
    lines = [f"# {name}: {remark}", "# Written by make.py: offset, bytes, and what scapy reads in them.", ""]
    offset = 0
    for data, meaning in fields(Ether(frame)):
        lines.append(f"{offset:3}  {data.hex(' '):47}  # {meaning}")
        offset += len(data)
    if offset != len(frame):
        raise ValueError(f"{name}: {len(frame)} bytes, of which scapy reads {offset}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name, remark, packet in packets():
        (HERE / f"{name}.txt").write_text(text(name, remark, bytes(packet)))
