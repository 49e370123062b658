# SPDX-License-Identifier: BSD-2-Clause
"""The command line's outside: usage errors, help, the man page, the completion. TAP.

usage: test-cli-usage.py SOURCE_ROOT FERRY [CASE]"""

import os
import re
import shutil
import subprocess
import sys

SOURCE, FERRY = sys.argv[1:3]
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))

from cases import Skip, check, run  # noqa: E402 (the path comes first)
from ferry import Ferry             # noqa: E402

SUBCOMMANDS = ("run", "migrate", "status", "ctl", "doctor", "inspect", "receive", "send", "bench")
# Those whose options are told and completed: benches have their own.
WITH_OPTIONS = (*SUBCOMMANDS, "bench link", "bench guest", "bench fault", "bench compare", "bench report")
NOWHERE = "unix:/nowhere/qmp"
WRONG = (
    ((), "Usage"),
    (("frobnicate",), "no subcommand 'frobnicate'"),
    (("help", "frobnicate"), "no subcommand 'frobnicate'"),
    (("run", "--ram", "lots"), "'lots' is no size"),
    (("run", "--ram", "0"), ""),
    (("run", "--fill", "sand"), "pages, random, zero, sparse or holes"),
    (("run", "--kvm", "--process"), "exclude"),
    (("run", "--vcpus", "0"), "--vcpus"),
    (("run", "--seed", "x"), "x"),
    (("run", "--process", "--workload", "dance:9"), "dance"),
    (("run", "--process", "--dirty-source", "guess"), "guess"),
    (("run", "--process", "--set", "warp=9"), "there is no setting 'warp'; there are events, "),
    (("run", "--process", "--set", "verify-ram"), "NAME=VALUE"),
    (("run", "--process", "--set", "verify-ram=maybe"), "on or off"),
    (("run", "--process", "--set", "downtime-limit=9999999"), "downtime-limit"),
    (("run", "--process", "--set", "downtime-limit=soon"), "an integer, as 300 or 100M"),
    (("run", "--process", "--set", "direct-io=7"), "direct-io=7: expected on or off"),
    (("run", "--process", "--set", "multifd-compression=lzma"), "expected none, zlib, zstd"),
    (("run", "--process", "--set", "tls-creds=a"), "reserved"),
    (("run", "--process", "--set", "xbzrle-cache-size=5K"), "a power of two, not 5120"),
    (("run", "--process", "--set", "multifd=on", "--set", "xbzrle=on"), "'multifd' cannot be combined with 'xbzrle'"),
    (("run", "--process", "--set", "zero-copy-send=on"), "'zero-copy-send' needs 'multifd'"),
    (("run", "--process", "--qmp", "tcp:1"), "unix:PATH"),
    (("run", "--process", "--incoming", "carrier-pigeon:x"), "carrier-pigeon"),
    (("run", "--log", "loud"), "off, warning, message, info or debug"),
    (("run", "surplus"), "surplus"),
    (("migrate", "tcp:a:1"), "--qmp"),
    (("migrate", "--qmp", NOWHERE), "expected URI"),
    (("migrate", "--qmp", NOWHERE, "tcp:a:1", "tcp:b:1"), "unexpected 'tcp:b:1'"),
    (("migrate", "--qmp", "/nowhere/qmp", "tcp:a:1"), "expected unix:PATH"),
    (("migrate", "--qmp", NOWHERE, "pigeon:home"), "pigeon:home"),
    (("migrate", "--frobnicate"), "--frobnicate"),
    (("migrate", "--qmp", NOWHERE, "--postcopy=soon", "tcp:a:1"), "2s or 500ms, or a round as round:3"),
    (("migrate", "--qmp", NOWHERE, "--postcopy=round:0", "tcp:a:1"), "round:3"),
    (("migrate", "--qmp", NOWHERE, "--dry-run=soon", "tcp:a:1"), "1 to 600"),
    (("migrate", "--qmp", NOWHERE, "--dry-run=0", "tcp:a:1"), "1 to 600"),
    (("migrate", "--qmp", NOWHERE, "--dry-run", "--postcopy", "tcp:a:1"), "moves nothing"),
    (("status",), "--qmp"),
    (("status", "--qmp", NOWHERE, "--json", "--prometheus"), "exclude"),
    (("status", "--qmp", "/nowhere/qmp"), "expected unix:PATH"),
    (("ctl", "query-status"), "--qmp"),
    (("ctl", "--qmp", NOWHERE), "expected COMMAND"),
    (("ctl", "--qmp", NOWHERE, "migrate", "uri"), "expected KEY=VALUE"),
    (("ctl", "--qmp", NOWHERE, "migrate", "=x"), "expected KEY=VALUE"),
    (("ctl", "--qmp", NOWHERE, "migrate", "a=1", "a=2"), "there already"),
    (("ctl", "--qmp", NOWHERE, "migrate", "a=1", "a.b=2"), "there already"),
    (("doctor", "surplus"), "surplus"),
    (("bench",), "expected link|guest|fault|compare|report"),
    (("bench", "press"), "no bench 'press'"),
    (("bench", "link", "surplus"), "surplus"),
    (("bench", "link", "--listen", "rdma:a:1", "--peer", "rdma:b:1"), "exclude"),
    (("bench", "link", "--repeat", "0"), "--repeat"),
    (("bench", "link", "--seconds", "nan"), "--seconds"),
    (("bench", "link", "--depth", "1,-1"), "--depth"),
    (("bench", "link", "--connections", "17"), "--connections"),
    (("bench", "link", "--listen", "unix:/tmp/a"), "rdma:HOST:PORT or tcp:HOST:PORT"),
    (("run", "--beat-interval", "0"), "--beat-interval"),
    (("bench", "link", "--queue-pairs", "17"), "17 is not within 1 to 16"),
    (("bench", "link", "--queue-pairs", "1,,2"), "'' is no size"),
    (("bench", "link", "--sizes", "1,2,3,4,5,6,7,8,9"), "1 to 8 numbers"),
    (("bench", "link", "--ram", "100K"), "--ram"),
    (("bench", "guest", "--transport", "pigeon"), "no such transport: pigeon"),
    (("bench", "guest", "--listen", "127.0.0.1"), "expected HOST:PORT"),
    (("bench", "guest", "--ram", "1500"), "say a size as 512M or 4G"),
    (("bench", "guest", "--repeat", "0"), "--repeat is at least 1"),
    (("bench", "guest", "--rate", "fast"), "--rate"),
    (("bench", "compare", "--listen", "a:1", "--peer", "b:1"), "not allowed with"),
    (("bench", "compare", "--repeat", "0"), "--repeat is at least 1"),
    (("bench", "compare", "--only", "pigeons"), "nothing has 'pigeons' in its name"),
    (("bench", "compare", "surplus"), "surplus"),
    (("bench", "fault"), "one of URI, --listen and --peer"),
    (("bench", "fault", "--listen", "rdma:a:1", "--peer", "rdma:b:1"), "one of URI, --listen and --peer"),
    (("bench", "fault", "--listen", "rdma:a:1", "tcp:b:1"), "one of URI, --listen and --peer"),
    (("bench", "fault", "tcp:a:1", "tcp:b:1"), "unexpected 'tcp:b:1'"),
    (("bench", "fault", "unix:/a"), "rdma:HOST:PORT or tcp:HOST:PORT"),
    (("bench", "fault", "tcp:a:1", "--faults", "0"), "--faults"),
    (("bench", "fault", "tcp:a:1", "--faults", "10000001"), "--faults"),
    (("bench", "fault", "tcp:a:1", "--repeat", "1001"), "--repeat"),
    (("bench", "fault", "tcp:a:1", "--ram", "1500K"), "--ram"),
    (("bench", "fault", "tcp:a:1", "--ram", "much"), "'much' is no size"),
)


def every_wrong_line__says_what_and_exits_2():
    with Ferry(FERRY) as ferry:
        for arguments, words in WRONG:
            result = ferry.command(*arguments)
            check(result.returncode == 2, f"{arguments}: status {result.returncode}: {result.stderr}")
            check(words in result.stderr, f"{arguments}: no '{words}' in {result.stderr}")
            check(not result.stdout or arguments[0] == "run", f"{arguments}: stdout {result.stdout}")
            check("--help" in result.stderr, f"{arguments}: does not point to the help: {result.stderr}")


def no_monitor__is_a_failure_and_not_a_usage_error():
    with Ferry(FERRY) as ferry:
        for arguments in (("ctl", "--qmp", NOWHERE, "stop"), ("migrate", "--qmp", NOWHERE, "tcp:a:1")):
            result = ferry.command(*arguments)
            check(result.returncode == 1, f"{arguments}: status {result.returncode}")
            check("/nowhere/qmp" in result.stderr, result.stderr)


def help__of_everything__teaches_with_an_example():
    with Ferry(FERRY) as ferry:
        for arguments in [("--help",), ("help",)]:
            result = ferry.command(*arguments)
            check(result.returncode == 0 and not result.stderr, result.stderr)
            for name in SUBCOMMANDS:
                check(re.search(rf"^  {name} ", result.stdout, re.MULTILINE), f"{name} is not in the help")
        for name in WITH_OPTIONS:
            result = ferry.command(*name.split(), "--help")
            check(result.returncode == 0 and not result.stderr, result.stderr)
            check("Example" in result.stdout and "ferry " + name in result.stdout, f"{name}: {result.stdout}")
            check("xit status" in result.stdout, f"{name}: no exit status in the help")
            if name in SUBCOMMANDS:
                check(ferry.command("help", name).stdout == result.stdout, f"help {name} differs")
        check(re.fullmatch(r"ferry \d+\.\d+\.\d+\n", ferry.command("--version").stdout), "--version")


def options_of(ferry, name):
    return set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", ferry.command(*name.split(), "--help").stdout, re.MULTILINE))


def man_page__has_every_subcommand_and_option():
    with open(os.path.join(SOURCE, "docs", "man", "ferry.1"), encoding="utf-8") as text:
        page = text.read().replace("\\-", "-")
    with Ferry(FERRY) as ferry:
        for name in WITH_OPTIONS:
            check(f"ferry {name}" in page, f"ferry {name} is not in the man page")
            for option in options_of(ferry, name) - {"--help"}:
                check(option in page, f"{name} {option} is not in the man page")


def man_page__renders_without_warnings():
    page = os.path.join(SOURCE, "docs", "man", "ferry.1")
    if not shutil.which("groff"):
        raise Skip("groff is not installed")
    result = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", page], capture_output=True, text=True, check=False)
    check(result.returncode == 0 and not result.stderr, result.stderr)


def complete(line):
    """What bash would put there."""
    script = ('source "$1"; COMP_LINE=$2; COMP_POINT=${#2}; COMP_WORDS=($2); _ferry; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    result = subprocess.run(["bash", "-c", script, "bash", os.path.join(SOURCE, "cli", "completion.bash"), line],
                            capture_output=True, text=True, check=False)
    check(not result.stderr, result.stderr)
    return result.stdout.split()


def completion__syntax_words_and_options():
    script = os.path.join(SOURCE, "cli", "completion.bash")
    result = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    check(result.returncode == 0, result.stderr)
    check(set(SUBCOMMANDS) < set(complete("ferry ")), complete("ferry "))
    check(complete("ferry st") == ["status"], complete("ferry st"))
    check(complete("ferry mi") == ["migrate"], complete("ferry mi"))
    check(complete("ferry migrate --qmp unix:/a tc") == ["tcp:"], "tcp:")
    check(complete("ferry migrate --set max-p") == ["max-postcopy-bandwidth="], "--set")
    check(complete("ferry run --incoming def") == ["defer"], "--incoming")
    check(complete("ferry bench ") == ["link", "guest", "fault", "compare", "report"], "bench")
    check(complete("ferry ctl --qmp unix:/a query-st") == ["query-status"], "ctl")
    check(complete("ferry migrate --set verify-ram=o") == ["on", "off"], "--set verify-ram=")
    check(complete("ferry migrate --set multifd-compression=z") ==
          ["zlib", "zstd"], "--set multifd-compression=")
    check(not complete("ferry migrate --set downtime-limit="), "--set downtime-limit=")
    with Ferry(FERRY) as ferry:
        for name in WITH_OPTIONS:
            known, offered = options_of(ferry, name) | {"--help"}, set(complete(f"ferry {name} --"))
            check(known == offered, f"{name}: {known ^ offered}")


def completion__settings_and_commands__are_all_there():
    with Ferry(FERRY) as ferry:
        there = ferry.command("run", "--process", "--set", "warp=1").stderr.split("there are ")[1].split("\n")[0]
    there = {name + "=" for name in there.split(", ")}
    offered = set(complete("ferry migrate --set "))
    check(len(there) > 40 and there == offered, there ^ offered)
    with open(os.path.join(SOURCE, "docs", "qmp.md"), encoding="utf-8") as text:
        rows = re.findall(r"^\| (`.*?) \|", text.read().split("## Commands")[1].split("\n## ")[0], re.MULTILINE)
    commands = {name for row in rows for name in re.findall(r"`([a-z_-]+)`", row)}
    offered = set(complete("ferry ctl --qmp unix:/a "))
    check(commands == offered, commands ^ offered)


CASES = [(case.__name__, case) for case in (
    every_wrong_line__says_what_and_exits_2,
    no_monitor__is_a_failure_and_not_a_usage_error,
    help__of_everything__teaches_with_an_example,
    man_page__has_every_subcommand_and_option,
    man_page__renders_without_warnings,
    completion__syntax_words_and_options,
    completion__settings_and_commands__are_all_there,
)]

if __name__ == "__main__":
    sys.exit(run(CASES, *sys.argv[3:]))
