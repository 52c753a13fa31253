#!/usr/bin/python3
"""Run in the client of the lab: who answers for an address, when that changes, and how long it was away.

    measure.py ADDRESS [SECONDS]        without SECONDS until Ctrl-C

The names of hosts come on the standard input, a line each: ADDRESS NAME.
"""

import subprocess
import sys
import time

from client import Client, Target

# Shorter than this is no gap: an answer came late.
GAP_S = 0.03


def main():
    address, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else None
    names = dict(line.split()[:2] for line in sys.stdin if line.strip())
    route = subprocess.run(["ip", "-oneline", "route", "get", address], check=True, capture_output=True, text=True).stdout.split()
    interface = route[route.index("dev") + 1]
    macs = {mac_of(host): name for host, name in names.items()}
    target = Target(address, interface)
    client = Client([target], lambda mac: macs.get(mac, mac))
    client.start()
    begun = time.monotonic()
    last = None
    try:
        while seconds is None or time.monotonic() - begun < seconds:
            time.sleep(0.1)
            owner = ", ".join(sorted(client.answers(address, 0.2))) or "nobody"
            if owner != last:
                print(f"{time.strftime('%H:%M:%S')}  {address}: {owner} answers", flush=True)
                last = owner
    except KeyboardInterrupt:
        pass
    seen = client.seen(target)
    client.stop()
    together = f"TWO HOSTS ANSWERED: {seen}" if seen.two_owners else "two hosts never answered together"
    answered = " -> ".join(seen.hosts) or "nobody"
    print(f"{address}: away for {seen.away_s:.2f} s at most, {seen.lost} requests lost; answered by {answered}; {together}")


def mac_of(host):
    """From the neighbour table, after the host was asked for something."""
    subprocess.run(["ping", "-c", "1", "-W", "2", host], stdout=subprocess.DEVNULL)
    words = subprocess.run(["ip", "neighbour", "show", host], capture_output=True, text=True).stdout.split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else host


if __name__ == "__main__":
    main()
