#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What xbzrle saves on the wire. Usage: test-xbzrle.py FERRY [SUBSTRING-OF-CASES]"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
import processes
from cases import check, wait_for
from processes import Place, check_arrived

MIB = 1 << 20
ROUNDS = 12
FEWER = 8  # times fewer bytes, at least


def bytes_a_page(xbzrle):
    """Of a guest that changes 64 bytes of each page of its hot set, faster than pages go: bytes on the wire for a
    dirtied page. Not in the first two rounds: there each page goes whole, and fills the cache. The guest is let go
    then, and arrives as it was; differences are so small that it may go before."""
    with Place() as place:
        destination = place.monitor("destination", "--process", "--incoming", "tcp:127.0.0.1:0", ram="128M")
        source = place.monitor("source", "--process", "--fill", "sparse", "--workload", "hotset:32M:800",
                               "--set", f"xbzrle={xbzrle}", "--set", f"max-bandwidth={200 * MIB}",
                               "--set", "downtime-limit=0", ram="128M")
        begin = time.monotonic()
        source.call("migrate", uri=destination.uri())
        wait_for(lambda: source.migration()["status"] == "completed" or
                 len(source.migration().get("rounds", ())) > ROUNDS, f"the end, or {ROUNDS} rounds")
        source.set(downtime_limit=2000, max_bandwidth=0)
        source.wait_state("completed")
        check_arrived(source, destination, begin)
        rounds = source.migration()["rounds"][2:ROUNDS]
        return sum(one["bytes"] for one in rounds) / sum(one["dirty-pages"] for one in rounds)


def xbzrle__64_bytes_change_in_each_page__saves_most_of_the_wire():
    without, encoded = bytes_a_page("off"), bytes_a_page("on")
    print(f"# {without:.0f} bytes a dirtied page without, {encoded:.0f} with: {without / encoded:.1f} times fewer")
    check(without >= FEWER * encoded, f"only {without / encoded:.1f} times fewer")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    processes.use(sys.argv[1])
    sys.exit(cases.run([(case.__name__, case) for case in (
        xbzrle__64_bytes_change_in_each_page__saves_most_of_the_wire,)], *sys.argv[2:]))
