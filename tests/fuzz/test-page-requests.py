#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A hostile destination that asks for pages in postcopy: what is wrong is refused by its name, the source pauses, keeps
its RAM, and lives. Usage: test-page-requests.py FERRY [SUBSTRING-OF-CASES]"""

import os
import random
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
import processes
from cases import check, wait_for
from destination import (HAVE_ALL, PAGE, PAGES, READY, RECV_BITMAP, REQ_PAGES, REQ_PAGES_ID, RESUME_ACK, ROUND_DONE, SHUT,
                         ZERO_PAGES, Destination, message, record, request)
from processes import Place, QmpError

RAM = 16 << 20
TRICKLE = 65536  # bytes a second of what nobody asked for: postcopy lasts
SEED, TRIES = 4711, 24


class Scene:
    """A guest on its way to a destination by hand."""

    def __enter__(self):
        self.place = Place().__enter__()
        self.peer = Destination()
        try:
            self.source = self.place.monitor("source", "--process", "--fill", "random", "--workload", "idle", ram=str(RAM))
            self.source.capability("postcopy-ram", True)
            self.source.set(max_bandwidth=TRICKLE, max_postcopy_bandwidth=TRICKLE)
            self.source.call("migrate", uri=self.peer.uri)
            self.peer.accept()
            self.peer.serve_until(lambda kind, number, payload: self.peer.rounds)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exception):
        self.peer.__exit__(*exception)
        self.place.__exit__(*exception)

    def switch(self):
        """The guest is the destination's, and its largest block is where it asks."""
        self.source.call("migrate-start-postcopy")
        self.peer.serve_until_run()
        self.block, self.size = max(self.peer.blocks.items(), key=lambda item: item[1])

    def check_refused(self, *words):
        """Postcopy is paused, and says why; the guest runs nowhere here, and everything else is as before."""
        wait_for(lambda: self.source.state() not in ("postcopy-active", "device"), "the source to refuse it")
        answer = self.source.migration()
        reason = answer.get("error-desc", "")
        check(answer["status"] == "postcopy-paused", f"it is {answer['status']}: {reason}")
        for word in words:
            check(word in reason, f"the reason does not say {word!r}: {reason!r}")
        check(not self.source.running(), "the guest runs, which is the destination's")
        check(self.source.run_state() == "finish-migrate", f"run state {self.source.run_state()}")
        try:
            self.source.call("cont")
            raise AssertionError("cont runs a guest that has been handed over")
        except QmpError:
            pass
        check(self.source.process.poll() is None, "the source died")


def refused(*words, bad):
    """@bad: what is said after the switch, of the block's name and size; None: the end."""
    def case():
        with Scene() as scene:
            scene.switch()
            said = bad(scene.block, scene.size)
            if said is None:
                scene.peer.hang_up()
            else:
                scene.peer.say(said)
            scene.check_refused(*words)
    return case


def named(data, name=b"", length=None):
    """A REQ_PAGES_ID whose name claims to be of another length."""
    return message(REQ_PAGES_ID, data + struct.pack(">B", len(name) if length is None else length) + name)


RANGE = struct.pack(">QI", 0, PAGE)

BAD = {  # what is said, and the words of the reason
    "before_any_name": (lambda block, size: request(0, PAGE), "named a block"),
    "of_an_unknown_block": (lambda block, size: request(0, PAGE, "pc.nowhere"), "pc.nowhere", "no such block"),
    "of_a_block_without_name": (lambda block, size: request(0, PAGE, ""), "no such block"),
    "of_a_name_with_a_nul": (lambda block, size: request(0, PAGE, block + "\0x"), "no such block"),
    "of_a_name_that_is_no_text": (lambda block, size: named(RANGE, b"\xff\xfe\x80"), "no such block"),
    "with_a_misaligned_start": (lambda block, size: request(1, PAGE, block), "0x1", "multiple"),
    "with_a_misaligned_length": (lambda block, size: request(0, PAGE - 1, block), "4095", "multiple"),
    "of_nothing": (lambda block, size: request(PAGE, 0, block), "0x1000", "nothing"),
    "at_the_end_of_the_block": (lambda block, size: request(size, PAGE, block), str(RAM)),
    "beyond_the_end_of_the_block": (lambda block, size: request(size - PAGE, 2 * PAGE, block), str(RAM)),
    "that_wraps_round": (lambda block, size: request(-PAGE, 2 * PAGE, block), "0xfffffffffffff000"),
    "of_everything_that_a_u32_counts": (lambda block, size: request(0, 0xfffff000, block), str(RAM)),
    "of_the_last_block_and_misaligned": (
        lambda block, size: request(0, PAGE, block) + request(7, PAGE), "0x7", "multiple"),
    "that_is_too_short": (lambda block, size: message(REQ_PAGES, RANGE[:11]), "11"),
    "that_is_empty": (lambda block, size: message(REQ_PAGES_ID), "0 bytes"),
    "that_is_too_long": (lambda block, size: message(REQ_PAGES, RANGE + b"\0"), "13"),
    "with_a_name_cut_short": (lambda block, size: named(RANGE, b"ra", 4), "15"),
    "with_more_than_its_name": (lambda block, size: named(RANGE, b"ram", 1), "16"),
    "of_more_than_a_message_holds": (lambda block, size: message(REQ_PAGES_ID, RANGE + b"\xff" * 600), "612"),
}

# Not requests, but just as much out of place there: what is said, and the words of the reason.
WORSE = {
    "shut__before_the_last_page": (message(SHUT, struct.pack(">I", 0)),),
    "shut__with_an_error": (message(SHUT, struct.pack(">I", 1)), "error"),
    "recv_bitmap__unasked": (message(RECV_BITMAP, b"\3ram"),),
    "message__of_an_unknown_type": (message(0x99), "0x0099"),
    "record__of_an_unknown_type": (record(0x7777), "7777"),
    "end__of_the_connection": (None,),
}


def take_pages(scene, wanted):
    """Reads on until all pages @wanted have come; returns what came, in order."""
    came = []
    while not set(wanted) <= set(came):
        _, _, payload = scene.peer.serve_until(
            lambda kind, number, payload: kind == "record" and number in (PAGES, ZERO_PAGES))
        _, first, pages = struct.unpack(">IQQ", payload)
        came += range(first, first + pages)
    return came


def well_formed__asked_for__comes_first():
    """What the others are compared with: each request is answered, in its order, before the rest."""
    with Scene() as scene:
        scene.switch()
        wanted = [scene.size // PAGE - 1, 2000, 1234]
        scene.peer.say(request(wanted[0] * PAGE, PAGE, scene.block) +
                       b"".join(request(page * PAGE, PAGE) for page in wanted[1:]))
        came = take_pages(scene, wanted)
        check([page for page in came if page in wanted] == wanted, f"they came as {came}")
        check(len(came) < 1000, f"{len(came)} pages came before them")
        check(scene.source.state() == "postcopy-active", f"{scene.source.migration()}")


def replies__that_nobody_waits_for__change_nothing():
    with Scene() as scene:
        scene.switch()
        scene.peer.say(record(HAVE_ALL) + record(ROUND_DONE, struct.pack(">IQ", 99, 0)) +
                       record(READY, struct.pack(">IQ", 0, 0)) + message(RESUME_ACK, struct.pack(">I", 1)))
        scene.peer.say(request(2000 * PAGE, PAGE, scene.block))
        take_pages(scene, [2000])
        check(scene.source.state() == "postcopy-active", f"{scene.source.migration()}")
        check(not scene.source.running(), "the guest runs, which is the destination's")


def before_the_switch__well_formed__is_refused_and_guest_runs_on():
    with Scene() as scene:
        scene.peer.say(request(0, PAGE, next(iter(scene.peer.blocks))))
        _, state = scene.source.wait_state("failed")
        check(scene.source.running(), f"the guest does not run on: {scene.source.migration()}")
        scene.source.guest_check()


def flood__unread_and_endless__is_refused():
    """All pages, again and again, of a destination that reads none of them: the source cannot send, and more wait than the
    RAM has."""
    with Scene() as scene:
        scene.switch()
        scene.peer.say(request(0, PAGE, scene.block))
        everything = b"".join(request(page * PAGE, PAGE) for page in range(scene.size // PAGE))
        try:
            for _ in range(16):
                scene.peer.say(everything)
        except OSError:
            pass
        scene.check_refused("more requests")


def noise__of_a_seed__pauses_or_is_served():
    """Requests with a valid frame and any bytes in it."""
    dice = random.Random(SEED)
    for number in range(TRIES):
        with Scene() as scene:
            scene.switch()
            data = dice.randbytes(dice.choice((0, 1, 11, 12, 13, 16, 40, 268, 512)))
            if dice.random() < 0.5 and len(data) >= 13:
                data = data[:12] + bytes((len(data) - 13 & 0xff,)) + data[13:]
            said = message(dice.choice((REQ_PAGES, REQ_PAGES_ID)), data)
            print(f"# {number}: {said[:40].hex()}", flush=True)
            scene.peer.say(said)
            scene.check_refused()


def table():
    for case in (well_formed__asked_for__comes_first, replies__that_nobody_waits_for__change_nothing):
        yield case.__name__, case
    for name, (make, *words) in BAD.items():
        yield f"request__{name}__is_refused", refused(*words, bad=make)
    for name, (said, *words) in WORSE.items():
        yield f"{name}__is_refused", refused(*words, bad=lambda block, size, said=said: said)
    for case in (before_the_switch__well_formed__is_refused_and_guest_runs_on, flood__unread_and_endless__is_refused,
                 noise__of_a_seed__pauses_or_is_served):
        yield case.__name__, case


def main():
    if len(sys.argv) > 1:
        processes.use(sys.argv[1])
    return cases.run(list(table()), *sys.argv[2:3])


if __name__ == "__main__":
    sys.exit(main())
