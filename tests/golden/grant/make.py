#!/usr/bin/python3
"""Makes the golden grant messages, from the table at the head of src/wire/grant.rs and nothing else.

    /usr/bin/python3 tests/golden/grant/make.py            # writes them
    /usr/bin/python3 tests/golden/grant/make.py --check    # fails where a file is another than this makes

They are frozen: a file that changes means that two versions of vipd no longer understand each other. Needs nothing but Python.
"""

import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent))

from frozen import finish

MS = 1_000_000


def name(text):
    return bytes([len(text)]) + text.encode()


def nanos(milliseconds):
    return struct.pack(">Q", milliseconds * MS)


ROUTER = name("db") + bytes([51])
STAMP = struct.pack(">Q", 0x0102030405060708)
ASK, REPLY, RELEASE, ROLL_CALL, PRESENT = 1, 2, 3, 4, 5

MESSAGES = {
    "ask": (ASK, [("router", ROUTER), ("stamp", STAMP), ("length", nanos(300)), ("challenge: none", b"\0")]),
    "ask-challenge": (ASK, [("router", ROUTER), ("stamp", STAMP), ("length", nanos(300)), ("challenge", bytes([150]))]),
    "granted": (REPLY, [("router", ROUTER), ("stamp", STAMP), ("granted", b"\1"), ("length", nanos(300))]),
    "granted-challenged": (
        REPLY,
        [
            ("router", ROUTER),
            ("stamp", STAMP),
            ("granted, but challenged", b"\2"),
            ("length", nanos(300)),
            ("challenger", name("db-a")),
            ("priority", bytes([150])),
        ],
    ),
    "refused": (
        REPLY,
        [("router", ROUTER), ("stamp", STAMP), ("refused", b"\3"), ("holder", name("db-b")), ("remaining", nanos(120))],
    ),
    "starting": (REPLY, [("router", ROUTER), ("stamp", STAMP), ("starting", b"\4"), ("remaining", nanos(2900))]),
    "too-long": (REPLY, [("router", ROUTER), ("stamp", STAMP), ("too long", b"\5"), ("longest", nanos(3000))]),
    "full": (REPLY, [("router", ROUTER), ("stamp", STAMP), ("full", b"\6")]),
    "release": (RELEASE, [("router", ROUTER), ("stamp", STAMP)]),
    "roll-call": (ROLL_CALL, [("stamp", STAMP)]),
    "present": (PRESENT, [("stamp", STAMP), ("wait", nanos(2900))]),
}


def text(name):
    kind, fields = MESSAGES[name]
    length = sum(len(value) for _, value in fields)
    values = [bytes([kind]), struct.pack(">H", length)] + [value for _, value in fields]
    return "".join(f"{value.hex(' ')}\n" for value in values)


finish({HERE / f"{name}.hex": text(name) for name in MESSAGES}, "golden grant messages")
