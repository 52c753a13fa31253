#!/usr/bin/env python3
"""Writes the frozen grant messages from the table at the head of src/wire/grant.rs, and from nothing else."""

import pathlib
import struct

HERE = pathlib.Path(__file__).parent
MS = 1_000_000


def name(text):
    return bytes([len(text)]) + text.encode()


def nanos(milliseconds):
    return struct.pack(">Q", milliseconds * MS)


ROUTER = name("db") + bytes([51])
STAMP = struct.pack(">Q", 0x0102030405060708)
ASK, REPLY, RELEASE, ROLL_CALL, PRESENT = 1, 2, 3, 4, 5

messages = {
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

for file, (kind, fields) in messages.items():
    length = sum(len(value) for _, value in fields)
    lines = [(f"kind {kind}", bytes([kind])), ("length", struct.pack(">H", length))] + fields
    width = max(len(value.hex(" ")) for _, value in lines)
    (HERE / f"{file}.hex").write_text("".join(f"{v.hex(' '):{width}}\n" for _, v in lines))
