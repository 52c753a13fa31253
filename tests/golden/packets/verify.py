#!/usr/bin/python3
"""Has scapy and tshark read the golden packets, and fails where either sees something else than expected.

    /usr/bin/python3 tests/golden/packets/verify.py

scapy must make the very files again. tshark must read what READINGS says, every checksum holding. That this can fail
is shown each time: no bit of any packet may be flipped without tshark's reading being another one. Needs Debian's
python3-scapy and tshark.
"""

import struct
import subprocess
import sys

sys.dont_write_bytecode = True

import make


def ethernet(destination, source, ethertype):
    return {"eth.dst": destination, "eth.src": source, "eth.type": ethertype}


def ipv4(length, checksum):
    """The IPv4 header of an advert, after its Ethernet header."""
    return ethernet("01:00:5e:00:00:12", "00:00:5e:00:01:33", "0x800") | {
        "ip.version": "4",
        "ip.hdr_len": "20",
        "ip.dsfield": "0xc0",
        "ip.len": length,
        "ip.id": "0x0",
        "ip.flags": "0x2",
        "ip.frag_offset": "0",
        "ip.ttl": "255",
        "ip.proto": "112",
        "ip.checksum": checksum,
        "ip.checksum.status": "1",
        "ip.src": "10.20.0.1",
        "ip.dst": "224.0.0.18",
    }


def ipv6(traffic_class, length, next_header, source, destination):
    return {
        "ip.version": "6",
        "ipv6.tclass": traffic_class,
        "ipv6.flow": "0x0",
        "ipv6.plen": length,
        "ipv6.nxt": next_header,
        "ipv6.hlim": "255",
        "ipv6.src": source,
        "ipv6.dst": destination,
    }


def vrrp(version, priority, addresses, checksum, **others):
    return {
        "vrrp.version": version,
        "vrrp.type": "1",
        "vrrp.virt_rtr_id": "51",
        "vrrp.prio": priority,
        "vrrp.addr_count": str(len(addresses.split(","))),
        "vrrp.ipv6_addr" if ":" in addresses else "vrrp.ip_addr": addresses,
        "vrrp.checksum": checksum,
        "vrrp.checksum.status": "1",
    } | {f"vrrp.{name}": value for name, value in others.items()}


def v3(priority, interval, addresses, checksum):
    return vrrp("3", priority, addresses, checksum, reserved_mbz="0", short_adver_int=interval)


def arp(operation, sender, target_mac):
    return ethernet("ff:ff:ff:ff:ff:ff", "02:11:22:33:44:55", "0x806") | {
        "arp.hw.type": "1",
        "arp.proto.type": "0x800",
        "arp.hw.size": "6",
        "arp.proto.size": "4",
        "arp.opcode": operation,
        "arp.src.hw_mac": "02:11:22:33:44:55",
        "arp.src.proto_ipv4": sender,
        "arp.dst.hw_mac": target_mac,
        "arp.dst.proto_ipv4": "10.20.0.100",
    }


def icmpv6(kind, checksum, **others):
    common = {"type": kind, "code": "0", "checksum": checksum, "checksum.status": "1"}
    return {f"icmpv6.{name}": value for name, value in (common | others).items()}


TWO = "10.20.0.100,10.20.0.101"

# Field names are tshark's, and the checksums those that it calls correct.
READINGS = {
    "v2-no-auth": ipv4("44", "0x907a")
    | vrrp("2", "150", TWO, "0x33d8", auth_type="0", adver_int="1"),
    "v2-password": ipv4("40", "0x907e")
    | vrrp("2", "150", "10.20.0.100", "0x104", auth_type="1", adver_int="3", auth_string="secret"),
    "v3-ipv4-rfc9568": ipv4("36", "0x9082") | v3("150", "100", TWO, "0x2375"),
    "v3-ipv4-rfc5798": ipv4("36", "0x9082") | v3("150", "100", TWO, "0x38cd"),
    "v3-ipv4-resign": ipv4("32", "0x9086") | v3("0", "1", "10.20.0.100", "0xc452"),
    "v3-ipv6": ethernet("33:33:00:00:00:12", "00:00:5e:00:02:33", "0x86dd")
    | ipv6("0xc0", "40", "112", "fe80::1", "ff02::12")
    | v3("255", "4095", "fe80::200:5eff:fe00:233,2001:db8:20::100", "0x330e"),
    "arp-gratuitous-request": arp("1", "10.20.0.100", "00:00:00:00:00:00") | {"arp.isannouncement": "1"},
    "arp-gratuitous-reply": arp("2", "10.20.0.100", "02:11:22:33:44:55") | {"arp.isgratuitous": "1"},
    "arp-probe": arp("1", "0.0.0.0", "00:00:00:00:00:00") | {"arp.isprobe": "1"},
    "nd-unsolicited-advertisement": ethernet("33:33:00:00:00:01", "02:11:22:33:44:55", "0x86dd")
    | ipv6("0x0", "32", "58", "2001:db8:20::100", "ff02::1")
    | icmpv6(
        "136",
        "0x1054",
        **{
            "nd.na.flag.r": "1",
            "nd.na.flag.s": "0",
            "nd.na.flag.o": "1",
            "nd.na.flag.rsv": "0",
            "nd.na.target_address": "2001:db8:20::100",
            "opt.type": "2",
            "opt.length": "1",
            "opt.target_linkaddr": "02:11:22:33:44:55",
        },
    ),
    "nd-probe": ethernet("33:33:ff:00:01:00", "02:11:22:33:44:55", "0x86dd")
    | ipv6("0x0", "24", "58", "::", "ff02::1:ff00:100")
    | icmpv6("135", "0x4acf", **{"nd.ns.target_address": "2001:db8:20::100"}),
}

FIELDS = sorted({field for reading in READINGS.values() for field in reading})
# tshark holds one of the two checksum forms of version 3 over IPv4 for right, as it is told.
ALONE = ("v3-ipv4-rfc9568", "v3-ipv4-resign")


def read_by_tshark(frames, checksum_alone):
    """One reading a frame: a dictionary of the FIELDS that are there."""
    capture = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for frame in frames:
        capture += struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame
    command = ["tshark", "-n", "-r", "-", "-T", "fields", "-E", "separator=|"]
    command += ["-o", "ip.check_checksum:TRUE", "-o", f"vrrp.v3_checksum_as_in_v2:{str(checksum_alone).upper()}"]
    command += [argument for field in FIELDS for argument in ("-e", field)]
    output = subprocess.run(command, input=capture, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    rows = [dict(zip(FIELDS, row.split("|"))) for row in output.decode().splitlines()]
    if len(rows) != len(frames):
        raise ValueError(f"tshark read {len(rows)} of {len(frames)} packets")
    return [{field: plain(value) for field, value in row.items() if value} for row in rows]


def plain(value):
    """A value without what differs between tshark's versions: leading zeros, and how it says yes and no."""
    return hex(int(value, 16)) if value.startswith("0x") else {"True": "1", "False": "0"}.get(value, value)


def bytes_of(golden):
    """The bytes of a golden file, its remarks and offsets left out."""
    lines = (line.split("#")[0].split() for line in golden.splitlines())
    return b"".join(bytes.fromhex("".join(line[1:])) for line in lines)


def flipped(frame):
    """The frame once for each of its bits, that bit flipped."""
    for bit in range(len(frame) * 8):
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def verify():
    """What is wrong, one line each."""
    made = {name: make.text(name, remark, bytes(packet)) for name, remark, packet in make.packets()}
    files = {path.stem: path.read_text() for path in make.HERE.glob("*.txt")}
    if not set(files) == set(made) == set(READINGS):
        yield f"files {sorted(files)}, made {sorted(made)}, readings {sorted(READINGS)}"
        return
    for name, golden in files.items():
        frame = bytes_of(golden)
        if golden != made[name]:
            yield f"{name}: scapy makes or reads it otherwise: run make.py and compare"
        reading, *others = read_by_tshark([frame, *flipped(frame)], name in ALONE)
        expected = READINGS[name]
        for field in FIELDS:
            # What tshark concludes is looked at where it is expected, what it reads everywhere.
            if reading.get(field) != expected.get(field) and (field in expected or not field.startswith("arp.is")):
                yield f"{name}: tshark reads {field} = {reading.get(field)}, expected {expected.get(field)}"
        for bit, other in enumerate(others):
            if other == reading and golden == made[name]:
                yield f"{name}: tshark does not notice byte {bit // 8}, bit {bit % 8}"


if __name__ == "__main__":
    wrong = list(verify())
    print("\n".join(wrong) if wrong else f"scapy and tshark agree on {len(READINGS)} packets")
    sys.exit(1 if wrong else 0)
