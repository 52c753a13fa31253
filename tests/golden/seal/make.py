#!/usr/bin/python3
"""Makes the golden messages, from the descriptions in src/wire/seal.rs and sealed_advert.rs and nothing else.

    /usr/bin/python3 tests/golden/seal/make.py            # writes them
    /usr/bin/python3 tests/golden/seal/make.py --check    # fails where a file is another than this makes

They are frozen: a file that changes means that two versions of vipd no longer understand each other. Needs nothing but Python.
"""

import hashlib
import hmac
import ipaddress
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent))

from frozen import finish

KEY = bytes(range(32))
LONG_KEY = bytes(255 - n for n in range(128))
KINDS = {"hello": 1, "heartbeat": 2, "grant": 3}
ASKS, ANSWERS = 1, 2


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def message(key, kind, sender, receiver, epoch, token, counter, payload):
    sealed = b"VIPD" + bytes([1, KINDS[kind]]) + mac(key, b"vipd key id")[:4]
    sealed += struct.pack(">QQQ", epoch, token, counter)
    for name in (sender, receiver):
        sealed += bytes([len(name)]) + name.encode()
    sealed += payload
    return sealed + mac(mac(key, b"vipd message 1"), sealed)


MESSAGES = {
    "hello-to-all": ("hello", "db-a", "", 0x0102030405060708, 0, 1, bytes([ASKS])),
    "hello-answer": (
        "hello", "db-b", "db-a", 0x1112131415161718, 0, 1,
        bytes([ASKS | ANSWERS]) + struct.pack(">QQQ", 0x2122232425262728, 0x0102030405060708, 1),
    ),
    "heartbeat": ("heartbeat", "db-a", "db-b", 0x0102030405060708, 0x2122232425262728, 2, b"alive"),
    "heartbeat-empty": ("heartbeat", "a", "b", 0, 1, 2**64 - 1, b""),
    "grant": ("grant", "db-a", "witness.example.net", 0x0102030405060708, 0x3132333435363738, 4711, bytes(range(256))),
    "grant-longest": ("grant", "s" * 255, "r" * 255, 2**64 - 1, 2**64 - 1, 2**64 - 1, b"\x5a" * 874),
}


# The packets of tests/golden/packets, behind their IP headers.
ADVERTS = {
    "advert-v3-ipv4": ("10.20.0.1", "3133 9602 000a 2fa5 0a14 0064 0a14 0065", 1, 0, 1),
    "advert-v3-ipv6": ("fe80::1", "3133 6401 000a 8f08" + "fe80 0000 0000 0000 0000 0000 0000 0051", 2**63, 3, 2**64 - 1),
    "advert-v2-ipv4": ("10.20.0.2", "2133 6401 0001 5b1d 0a14 0064" + "0000 0000 0000 0000", 1795000000, 65535, 4711),
}


def sealed_advert(key, source, advert, epoch, link, counter):
    address = ipaddress.ip_address(source)
    fields = b"VSA\x01" + mac(key, b"vipd key id")[:4] + struct.pack(">QIQ", epoch, link, counter)
    covered = bytes([address.version]) + address.packed.ljust(16, b"\0") + advert + fields
    return advert + fields + mac(mac(key, b"vipd advert 1"), covered)[:16]


def advert_text(name):
    source, packet, epoch, link, counter = ADVERTS[name]
    advert = bytes.fromhex(packet)
    lines = {
        "key": KEY.hex(),
        "source": source,
        "epoch": epoch,
        "link": link,
        "counter": counter,
        "advert": advert.hex(),
        "sealed": sealed_advert(KEY, source, advert, epoch, link, counter).hex(),
    }
    return "".join(f"{key}: {value}\n" for key, value in lines.items())


def text(name):
    kind, sender, receiver, epoch, token, counter, payload = MESSAGES[name]
    key = LONG_KEY if name == "grant" else KEY
    whole = message(key, kind, sender, receiver, epoch, token, counter, payload)
    lines = {
        "key": key.hex(),
        "kind": kind,
        "sender": sender,
        "receiver": receiver,
        "epoch": str(epoch),
        "token": str(token),
        "counter": str(counter),
        "payload": payload.hex(),
        "message": whole.hex(),
    }
    return "".join(f"{key}: {value}".rstrip() + "\n" for key, value in lines.items())


finish({HERE / f"{name}.txt": text(name) for name in MESSAGES} | {HERE / f"{name}.txt": advert_text(name) for name in ADVERTS}, "golden messages")
