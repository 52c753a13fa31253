#!/usr/bin/python3
"""Makes the golden messages, from the description in src/wire/seal.rs and nothing else.

    /usr/bin/python3 tests/golden/seal/make.py            # writes them
    /usr/bin/python3 tests/golden/seal/make.py --check    # fails where a file is another than this makes

They are frozen: a file that changes means that two versions of vipd no longer understand each other. Needs nothing but Python.
"""

import hashlib
import hmac
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).parent
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


def main():
    wrong = []
    for name in MESSAGES:
        path = HERE / f"{name}.txt"
        if sys.argv[1:] == ["--check"]:
            if path.read_text() != text(name):
                wrong.append(path.name)
        else:
            path.write_text(text(name))
    if wrong:
        sys.exit(f"other than what this script makes: {', '.join(wrong)}")
    print(f"{len(MESSAGES)} golden messages")


main()
