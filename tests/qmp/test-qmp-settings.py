# SPDX-License-Identifier: BSD-2-Clause
"""Every capability and parameter of a `ferry run`, over QMP: each legal edge is taken and told, each illegal value is
refused and changes nothing. What is expected is written down here, after QEMU's schema, and not read from Ferry. TAP.

usage: test-qmp-settings.py SOURCE_ROOT FERRY [CASE]"""

import itertools
import json
import os
import sys

SOURCE, FERRY = sys.argv[1:3]
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))

from cases import check, run  # noqa: E402 (the path comes first)
from ferry import Ferry  # noqa: E402

MOST = (1 << 63) - 1  # the largest integer of QMP


def whole(first, least, most, *older):
    """An integer from @least to @most."""
    above = [most + 1] if most < MOST else []
    return {"first": first, "legal": [least, least + 1, most], "illegal": [least - 1, -1, -MOST, *above, MOST + 1, 1 << 64],
            "type": "integer", "older": older}


def switch(first):
    return {"first": first, "legal": [True, False], "illegal": [], "type": "boolean", "older": ()}


def names(first, *others):
    return {"first": first, "legal": [*others, first], "illegal": ["", "None", "lzma", first + " "], "type": "string",
            "older": ()}


# Of QEMU's schema:
PARAMETERS = {
    "announce-initial": whole(50, 0, 100000),
    "announce-max": whole(550, 0, 100000),
    "announce-rounds": whole(5, 0, 1000),
    "announce-step": whole(100, 0, 10000),
    "compress-level": whole(1, 0, 9),
    "compress-threads": whole(8, 1, 255),
    "compress-wait-thread": switch(True),
    "decompress-threads": whole(2, 1, 255),
    "throttle-trigger-threshold": whole(50, 1, 100),
    "cpu-throttle-initial": whole(20, 1, 99, "x-cpu-throttle-initial"),
    "cpu-throttle-increment": whole(10, 1, 99, "x-cpu-throttle-increment"),
    "cpu-throttle-tailslow": switch(False),
    "tls-creds": {"first": "", "legal": [""], "illegal": ["tls0", " "], "type": "string", "older": ()},
    "tls-hostname": {"first": "", "legal": [""], "illegal": ["example.org"], "type": "string", "older": ()},
    "tls-authz": {"first": "", "legal": [""], "illegal": ["authz0"], "type": "string", "older": ()},
    "max-bandwidth": whole(0, 0, MOST),
    "avail-switchover-bandwidth": whole(0, 0, MOST),
    "downtime-limit": whole(300, 0, 2000000),
    "multifd-channels": whole(2, 1, 16, "x-multifd-channels"),
    "xbzrle-cache-size": {"first": 64 << 20, "legal": [4096, 8192, 1 << 30, 1 << 62],
                          "illegal": [0, -1, 1, 2048, 4095, 4097, 12288, (1 << 30) + 4096, MOST, MOST + 1, 1 << 64],
                          "type": "integer", "older": ()},
    "max-postcopy-bandwidth": whole(0, 0, MOST),
    "max-cpu-throttle": {**whole(99, 20, 99), "illegal": [0, 1, 19, 100, -1]},  # not below cpu-throttle-initial
    "multifd-compression": names("none", "zlib", "zstd"),
    "multifd-zlib-level": whole(1, 0, 9),
    "multifd-zstd-level": whole(1, 0, 20),
    "x-vcpu-dirty-limit-period": whole(1000, 1, 1000),
    "vcpu-dirty-limit": whole(1, 1, MOST),
    "direct-io": switch(False),
    # Ferry's own:
    "rdma-queue-pairs": whole(0, 0, 16),
    "rdma-pin-limit": whole(0, 0, MOST),
    "group-bandwidth": whole(0, 0, MOST),
    "bandwidth-group": {"first": "", "legal": ["/dev/shm/group", "wei\u00df \"nicht\"", "x" * 4095], "illegal": ["x" * 4096],
                        "type": "string", "older": ()},
}

# name: (at first, older names)
CAPABILITIES = {
    "xbzrle": (False, ()),
    "rdma-pin-all": (False, ("x-rdma-pin-all",)),
    "auto-converge": (False, ()),
    "zero-blocks": (False, ()),
    "compress": (False, ()),
    "events": (True, ()),
    "postcopy-ram": (False, ("x-postcopy-ram",)),
    "return-path": (True, ()),
    "pause-before-switchover": (False, ()),
    "multifd": (False, ("x-multifd",)),
    "x-ignore-shared": (False, ()),
    "validate-uuid": (False, ()),
    "zero-copy-send": (False, ()),
    "late-block-activate": (False, ()),
    "dirty-limit": (False, ()),
    "mapped-ram": (False, ()),
    # Ferry's own; `ferry run` switches the first on:
    "verify-ram": (True, ()),
    "rdma-require": (False, ()),
    "rdma-postcopy-pull": (True, ()),
}

# What needs what, and what excludes what: QEMU's rules, and Ferry's stricter ones of postcopy-ram and multifd.
NEEDS = {("zero-copy-send", "multifd"), ("postcopy-ram", "return-path"), ("multifd", "return-path")}
EXCLUDES = {frozenset(pair) for pair in (
    ("multifd", "xbzrle"), ("mapped-ram", "xbzrle"), ("mapped-ram", "compress"), ("mapped-ram", "postcopy-ram"),
    ("x-ignore-shared", "postcopy-ram"), ("dirty-limit", "auto-converge"), ("multifd", "compress"),
    ("postcopy-ram", "compress"), ("postcopy-ram", "multifd"), ("zero-copy-send", "mapped-ram"))}
# What cannot be while multifd-compression is not none.
UNCOMPRESSED = ("zero-copy-send", "mapped-ram")

OF_TYPE = {"integer": [7], "boolean": [True], "string": ["zlib"], "null": [None], "array": [[], [1]], "object": [{}],
           "number": [1.5, 4096.0]}
TEXTS = ("tls-creds", "tls-hostname", "tls-authz", "bandwidth-group")  # null: none
PROBE = ("rdma-queue-pairs", 11)  # set beside an illegal value; must then not be set


class Guest:
    """A monitor and what it says of its settings."""

    def __enter__(self):
        self.ferry = Ferry(FERRY).__enter__()
        _, self.client = self.ferry.guest("qmp", "--ram", "16M", "--process", "--paused")
        return self

    def __exit__(self, *what):
        self.ferry.__exit__(*what)

    def ask(self, command, arguments):
        self.client.send(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        return self.client.answer()

    def settings(self):
        capabilities = {entry["capability"]: entry["state"] for entry in self.client.command("query-migrate-capabilities")}
        return self.client.command("query-migrate-parameters"), capabilities

    def set_parameters(self, values):
        return self.ask("migrate-set-parameters", values)

    def set_capabilities(self, *states):
        return self.ask("migrate-set-capabilities",
                        {"capabilities": [{"capability": name, "state": state} for name, state in states]})

    def check_refused(self, answer, words, before):
        what = f"{answer} (expected: {words})"
        check(answer.get("error", {}).get("class") == "GenericError", what)
        for word in words:
            check(word in answer["error"]["desc"], what)
        now = self.settings()
        check(now == before, f"after {answer} there is {now}, and there was {before}")


def parameters__at_first__are_these_and_no_others():
    with Guest() as guest:
        parameters, _ = guest.settings()
        expected = {name: entry["first"] for name, entry in PARAMETERS.items()}
        check(parameters == expected, sorted(parameters.items() ^ expected.items(), key=str))


def capabilities__at_first__are_these_and_no_others():
    with Guest() as guest:
        _, capabilities = guest.settings()
        expected = {name: first for name, (first, _) in CAPABILITIES.items()}
        check(capabilities == expected, sorted(capabilities.items() ^ expected.items()))


def parameters__each_legal_edge__is_taken_and_told():
    with Guest() as guest:
        for name, entry in PARAMETERS.items():
            expected = guest.settings()[0]
            for called, value in itertools.product((name, *entry["older"]), (*entry["legal"], entry["first"])):
                answer = guest.set_parameters({called: value})
                check(answer == {"return": {}}, f"{called} = {value!r}: {answer}")
                expected[name] = value
                now = guest.settings()[0]
                check(now == expected and type(now[name]) is type(value), f"{called} = {value!r}: {now}")


def parameters__each_illegal_value__refused_and_nothing_changes():
    with Guest() as guest:
        before = guest.settings()
        for name, entry in PARAMETERS.items():
            probe = PROBE if name != PROBE[0] else ("downtime-limit", 11)
            for value in entry["illegal"]:
                guest.check_refused(guest.set_parameters({name: value}), [f"'{name}'"], before)
                guest.check_refused(guest.set_parameters(dict([probe, (name, value)])), [f"'{name}'"], before)
                guest.check_refused(guest.set_parameters(dict([(name, value), probe])), [f"'{name}'"], before)


def parameters__of_another_type__refused_and_nothing_changes():
    with Guest() as guest:
        before = guest.settings()
        for name, entry in PARAMETERS.items():
            for kind, values in OF_TYPE.items():
                if kind == entry["type"] or (kind == "null" and name in TEXTS):
                    continue
                for value in values:
                    answer = guest.set_parameters(dict([PROBE, (name, value)]) if name != PROBE[0] else {name: value})
                    guest.check_refused(answer, [f"'{name}'", f"expected: {entry['type']}"], before)


def parameters__text_null__is_empty():
    with Guest() as guest:
        guest.set_parameters({"bandwidth-group": "/group"})
        for name in TEXTS:
            check(guest.set_parameters({name: None}) == {"return": {}}, name)
            check(guest.settings()[0][name] == "", name)


def parameters__unknown__refused_and_nothing_changes():
    with Guest() as guest:
        before = guest.settings()
        for name in ("warp", "", "Max-bandwidth", "max_bandwidth", "max-bandwidth ", "xbzrle", "events", "x-announce-step"):
            guest.check_refused(guest.set_parameters(dict([PROBE, (name, 1)])), [f"'{name}' is unexpected"], before)


def parameters__none_and_many__all_or_nothing():
    with Guest() as guest:
        before = guest.settings()
        check(guest.set_parameters({}) == {"return": {}} and guest.settings() == before, "none")
        many = {name: entry["legal"][0] for name, entry in PARAMETERS.items()}
        bad = {**many, "announce-step": 10001}
        guest.check_refused(guest.set_parameters(bad), ["'announce-step'"], before)
        many["max-cpu-throttle"] = many["cpu-throttle-initial"] = 1
        check(guest.set_parameters(many) == {"return": {}}, "all at once")
        check(guest.settings()[0] == many, guest.settings()[0])


def throttle__first_step_above_the_most__refused():
    with Guest() as guest:
        before = guest.settings()
        words = ["'max-cpu-throttle'", "'cpu-throttle-initial'"]
        guest.check_refused(guest.set_parameters({"cpu-throttle-initial": 50, "max-cpu-throttle": 49}), words, before)
        check(guest.set_parameters({"cpu-throttle-initial": 50, "max-cpu-throttle": 50}) == {"return": {}}, "equal")
        before = guest.settings()
        guest.check_refused(guest.set_parameters({"cpu-throttle-initial": 51}), words, before)
        guest.check_refused(guest.set_parameters({"max-cpu-throttle": 49}), words, before)


def requirements(names_on):
    """What must be on beside these."""
    needed = {other for name, other in NEEDS if name in names_on}
    return [(name, True) for name in sorted(needed | set(names_on))]


def capabilities__on_and_off__is_taken_and_told():
    with Guest() as guest:
        for name, (first, older) in CAPABILITIES.items():
            for called, state in itertools.product((name, *older), (True, False, first)):
                states = [(other, on) for other, on in requirements({name}) if other != name] if state else []
                answer = guest.set_capabilities(*states, (called, state))
                check(answer == {"return": {}}, f"{called} {state}: {answer}")
                check(guest.settings()[1][name] is state, f"{called} {state}: {guest.settings()[1]}")
            guest.set_capabilities(*((other, at_first) for other, (at_first, _) in CAPABILITIES.items()))


def capabilities__malformed__refused_and_nothing_changes():
    state = {"capability": "xbzrle", "state": True}
    bad = [({**state, "state": value}, "expected: boolean") for value in (0, 1, "on", None, [], {})]
    bad += [({**state, "capability": value}, "expected: string") for value in (0, True, None, [])]
    bad += [({**state, "capability": value}, "does not accept value")
            for value in ("", "warp", "XBZRLE", "max-bandwidth", "block", "x-colo", "xbzrle ")]
    bad += [({"capability": "xbzrle"}, "is missing"), ({"state": True}, "is missing"), ({}, "is missing"),
            ({**state, "extra": 1}, "is unexpected"), (7, "expected: object"), ("xbzrle", "expected: object"),
            (None, "expected: object"), ([state], "expected: object")]
    good = {"capability": "rdma-require", "state": True}
    with Guest() as guest:
        before = guest.settings()
        for entry, words in bad:
            for entries in ([entry], [good, entry], [entry, good]):
                guest.check_refused(guest.ask("migrate-set-capabilities", {"capabilities": entries}), [words], before)
        for value, words in ((state, "expected: array"), ("xbzrle", "expected: array"), (None, "expected: array")):
            guest.check_refused(guest.ask("migrate-set-capabilities", {"capabilities": value}), [words], before)
        guest.check_refused(guest.ask("migrate-set-capabilities", {}), ["'capabilities' is missing"], before)
        check(guest.ask("migrate-set-capabilities", {"capabilities": []}) == {"return": {}}, "none")
        check(guest.settings() == before, guest.settings())


def capabilities__each_pair__taken_or_refused_in_any_order():
    """Both at once, and each before the other; what both need is on."""
    refused = 0
    with Guest() as guest:
        check(guest.set_capabilities(("return-path", True), ("multifd", False)) == {"return": {}}, "at first")
        for one, other in itertools.permutations(CAPABILITIES, 2):
            needed = [state for state in requirements({one, other}) if state[0] not in (one, other)]
            excluded = any(pair <= {one, other} | {name for name, _ in needed} for pair in EXCLUDES)
            off = [(name, name == "return-path") for name in CAPABILITIES]
            check(guest.set_capabilities(*off) == {"return": {}}, "all off")
            before = guest.settings()
            at_once = guest.set_capabilities(*needed, (one, True), (other, True))
            if excluded:
                refused += 1
                guest.check_refused(at_once, ["cannot be combined"], before)
                continue
            check(at_once == {"return": {}}, f"{one} with {other}: {at_once}")
            now = guest.settings()[1]
            check(now[one] and now[other], now)
        check(refused >= 2 * len(EXCLUDES), refused)


def capabilities__excluding_each_other__second_is_refused_with_both_names():
    with Guest() as guest:
        for pair in EXCLUDES:
            for one, other in itertools.permutations(pair):
                off = [(name, name == "return-path") for name in CAPABILITIES]
                check(guest.set_capabilities(*off) == {"return": {}}, "all off")
                check(guest.set_capabilities(*requirements({one})) == {"return": {}}, one)
                before = guest.settings()
                words = ["cannot be combined with", ": "]
                if "zero-copy-send" not in pair:  # that excludes by what it needs, too
                    words += [f"'{one}'", f"'{other}'"]
                guest.check_refused(guest.set_capabilities(*requirements({other})), words, before)


def capabilities__what_they_need__cannot_be_missing():
    with Guest() as guest:
        for name, needed in sorted(NEEDS):
            check(guest.set_capabilities((name, False), (needed, False)) == {"return": {}}, name)
            before = guest.settings()
            words = [f"'{name}' needs '{needed}'"]
            guest.check_refused(guest.set_capabilities((name, True)), words, before)
            check(guest.set_capabilities((name, True), (needed, True)) == {"return": {}}, name)
            before = guest.settings()
            guest.check_refused(guest.set_capabilities((needed, False)), words, before)
            check(guest.set_capabilities((needed, needed == "return-path"), (name, False)) == {"return": {}}, name)


def compression__with_what_must_be_plain__refused_on_either_side():
    for name in UNCOMPRESSED:
        with Guest() as guest:
            for way in ("zlib", "zstd"):
                words = [f"'{name}' needs parameter 'multifd-compression' to be 'none'"]
                check(guest.set_parameters({"multifd-compression": way}) == {"return": {}}, way)
                guest.check_refused(guest.set_capabilities(*requirements({name})), words, guest.settings())
                check(guest.set_parameters({"multifd-compression": "none"}) == {"return": {}}, "none")
                check(guest.set_capabilities(*requirements({name})) == {"return": {}}, name)
                guest.check_refused(guest.set_parameters({"multifd-compression": way}), words, guest.settings())
                check(guest.set_capabilities((name, False)) == {"return": {}}, name)


CASES = [(case.__name__, case) for case in (
    parameters__at_first__are_these_and_no_others,
    capabilities__at_first__are_these_and_no_others,
    parameters__each_legal_edge__is_taken_and_told,
    parameters__each_illegal_value__refused_and_nothing_changes,
    parameters__of_another_type__refused_and_nothing_changes,
    parameters__text_null__is_empty,
    parameters__unknown__refused_and_nothing_changes,
    parameters__none_and_many__all_or_nothing,
    throttle__first_step_above_the_most__refused,
    capabilities__on_and_off__is_taken_and_told,
    capabilities__malformed__refused_and_nothing_changes,
    capabilities__each_pair__taken_or_refused_in_any_order,
    capabilities__excluding_each_other__second_is_refused_with_both_names,
    capabilities__what_they_need__cannot_be_missing,
    compression__with_what_must_be_plain__refused_on_either_side,
)]

if __name__ == "__main__":
    sys.exit(run(CASES, *sys.argv[3:]))
