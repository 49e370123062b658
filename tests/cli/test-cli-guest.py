# SPDX-License-Identifier: BSD-2-Clause
"""The whole command: reference guests in processes of their own, moved and checked. TAP.

usage: test-cli-guest.py SOURCE_ROOT FERRY [CASE]"""

import json
import os
import re
import signal
import socket
import stat
import sys
import time

SOURCE, FERRY = sys.argv[1:3]
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))

from cases import Skip, check, run, wait_for  # noqa: E402 (the path comes first)
from ferry import Ferry, Qmp, QmpError  # noqa: E402

BUSY = ("--ram", "32M", "--process", "--workload", "random:20", "--seed", "7")
EMPTY = ("--ram", "32M", "--process")


def check_guest(client):
    report = client.command("guest-check")
    check(report["passed"] and report["bad"] == 0 and report["checked"] == 8192, report)
    return report


def refused(client, command, words, **arguments):
    try:
        client.command(command, **arguments)
    except QmpError as error:
        check(words in error.args[1], f"no '{words}' in {error}")
    else:
        raise AssertionError(f"{command} {arguments} was not refused")


def move(kind):
    with Ferry(FERRY) as ferry:
        there, client_there = ferry.guest("b", "--ram", "32M", kind, "--incoming", "tcp:127.0.0.1:0")
        uri = there.wait_line("listening on ")
        here, client = ferry.guest("a", "--ram", "32M", kind, "--workload", "random:20")
        before = check_guest(client)
        result = ferry.command("migrate", "--qmp", "unix:" + ferry.path("a"), "--json", uri)
        check(result.returncode == 0, result.stderr)
        answer = json.loads(result.stdout)
        check(answer["status"] == "completed" and answer["verified"] is True, answer)
        check(answer["transport"] == "tcp" and answer["wire-bytes"] > 0, answer)
        check(set(answer["cpu"]) == {"source", "destination"}, answer["cpu"])
        there.wait_line("the guest arrived (running)")
        here.wait_line("the guest is gone")
        check(check_guest(client_there)["heartbeat"] >= before["heartbeat"], "the heartbeat went back")
        check(client.command("query-status")["status"] == "postmigrate", "the source's run state")
        refused(client, "cont", "")
        client_there.command("quit")
        check(there.wait() == 0, there.output)
        client.command("quit")
        check(here.wait() == 0, here.output)
        check(not os.path.exists(ferry.path("a")), "the socket is left")


def process_guest__moved__is_whole_and_runs_there_alone():
    move("--process")


def need_kvm():
    with Ferry(FERRY) as ferry:
        result = ferry.command("run", "--kvm", "--ram", "32M", "--incoming", "tcp:127.0.0.1:0", "--set", "warp=1")
        if result.returncode != 2:
            raise Skip(result.stderr.strip().splitlines()[-1])


def kvm_guest__moved__is_whole_and_runs_there_alone():
    need_kvm()
    move("--kvm")


def guest__there_and_back__is_whole():
    with Ferry(FERRY) as ferry:
        there, client_there = ferry.guest("b", *EMPTY, "--incoming", "unix:" + ferry.path("to-b"))
        here, client = ferry.guest("a", *BUSY)
        for source, destination, name in (("a", client_there, "to-b"), ("b", client, "to-a")):
            if name == "to-a":
                client.command("migrate-incoming", uri="unix:" + ferry.path(name))
            result = ferry.command("migrate", "--qmp", "unix:" + ferry.path(source), "--quiet",
                                   "unix:" + ferry.path(name))
            check(result.returncode == 0, result.stderr)
            destination.wait_status("completed")
            check_guest(destination)
        check(here.process.poll() is None and there.process.poll() is None, "one ended")


def incoming__fails__says_why_and_takes_the_next():
    with Ferry(FERRY) as ferry:
        there, client_there = ferry.guest("b", *EMPTY, "--incoming", "defer")
        client_there.command("migrate-incoming", uri="tcp:127.0.0.1:0")
        uri = there.wait_line("listening on ")
        check(not uri.endswith(":0"), uri)
        _, client = ferry.guest("a", *BUSY)
        client.command("migrate-set-parameters", max_bandwidth=4 << 20)
        client.command("migrate", uri=uri)
        client.wait_event("MIGRATION", status="active")
        client.command("migrate_cancel")
        client.wait_status("cancelled")
        check(client.command("query-status")["running"], "the source does not run")
        there.wait_line("no guest came in: ")
        there.wait_line("ready for migrate-incoming")
        client_there.command("migrate-incoming", uri="tcp:127.0.0.1:0")
        result = ferry.command("migrate", "--qmp", "unix:" + ferry.path("a"), "--set", "max-bandwidth=0", "--quiet",
                               there.wait_line("listening on "))
        check(result.returncode == 0, result.stderr)
        client_there.wait_status("completed")
        check_guest(client_there)


def destination__killed_on_the_way__guest_stays_and_1():
    with Ferry(FERRY) as ferry:
        there, _ = ferry.guest("b", *EMPTY, "--incoming", "tcp:127.0.0.1:0")
        _, client = ferry.guest("a", *BUSY)
        migration = ferry.begin("migrate", "--qmp", "unix:" + ferry.path("a"), "--set", "max-bandwidth=4M",
                                there.wait_line("listening on "))
        client.wait_event("MIGRATION", status="active")
        there.process.kill()
        check(migration.wait() == 1, migration.output)
        check("The guest runs on at the source." in migration.output, migration.output)
        check_guest(client)


def interrupt__while_copying__guest_stays():
    with Ferry(FERRY) as ferry:
        there, _ = ferry.guest("b", *EMPTY, "--incoming", "tcp:127.0.0.1:0")
        here, client = ferry.guest("a", *BUSY)
        migration = ferry.begin("migrate", "--qmp", "unix:" + ferry.path("a"), "--set", "max-bandwidth=4M",
                                there.wait_line("listening on "))
        migration.wait_line("copying")
        migration.process.send_signal(signal.SIGINT)
        check(migration.wait() == 1 and "ferry migrate: cancelled" in migration.output, migration.output)
        here.wait_line("the guest stays: cancelled")
        check_guest(client)


def pause_before_switchover__continues_on_command():
    with Ferry(FERRY) as ferry:
        there, client_there = ferry.guest("b", *EMPTY, "--incoming", "tcp:127.0.0.1:0")
        _, client = ferry.guest("a", *BUSY)
        migration = ferry.begin("migrate", "--qmp", "unix:" + ferry.path("a"), "--set", "pause-before-switchover=on",
                                there.wait_line("listening on "))
        client.wait_event("MIGRATION", status="pre-switchover")
        refused(client, "migrate-continue", "Migration not in expected state: pre-switchover", state="device")
        migration.wait_line("waiting")
        client.command("migrate-continue", state="pre-switchover")
        check(migration.wait() == 0, migration.output)
        client_there.wait_status("completed")
        check_guest(client_there)


HELD = 0.3     # s that the guest is kept standing
SLACK = 3000   # ms by which a loaded machine may hold up a heartbeat that is due


def beats(client, vcpus):
    """What query-guest tells of a guest that runs or ran; checked as far as it must hold at any time."""
    answer = client.command("query-guest")
    check(set(answer) == {"running", "beat-interval-us", "written", "vcpus"}, answer)
    check(len(answer["vcpus"]) == vcpus, answer)
    for vcpu in answer["vcpus"]:
        check(0 < vcpu["first-beat-ns"] <= vcpu["last-beat-ns"] <= time.time_ns(), vcpu)
        check(0 < vcpu["beats"] <= vcpu["heartbeat"], vcpu)
        check(vcpu["longest-gap-us"] * 1000 <= vcpu["last-beat-ns"] - vcpu["first-beat-ns"] + 1000000, vcpu)
    return answer


def beaten(client, vcpus):
    """Whether each vCPU beat on this side."""
    answer = client.command("query-guest")
    return len(answer["vcpus"]) == vcpus and all(vcpu["beats"] for vcpu in answer["vcpus"])


def watch_move(kind):
    with Ferry(FERRY) as ferry:
        there, client_there = ferry.guest("b", "--ram", "32M", kind, "--beat-interval", "2000", "--incoming",
                                          "tcp:127.0.0.1:0")
        _, client = ferry.guest("a", "--ram", "32M", kind, "--vcpus", "2", "--workload", "random:20")
        check(client_there.command("query-guest") == {"running": False, "beat-interval-us": 2000, "written": 0,
                                                      "vcpus": []}, "a guest before it came")
        wait_for(lambda: beaten(client, 2), "heartbeats")
        first = beats(client, 2)
        check(first["running"] and first["beat-interval-us"] == 5000, first)
        client.command("migrate-set-capabilities",
                       capabilities=[{"capability": "pause-before-switchover", "state": True}])
        client.command("migrate", uri=there.wait_line("listening on "))
        client.wait_event("MIGRATION", status="pre-switchover")
        held = time.time_ns()
        before = beats(client, 2)
        check(not before["running"] and before["written"] >= first["written"], before)
        time.sleep(HELD)
        check(beats(client, 2) == before, "a guest that stands still beats")
        client.command("migrate-continue", state="pre-switchover")
        downtime = client.wait_status("completed")["downtime"]
        wait_for(lambda: beaten(client_there, 2), "heartbeats there")
        after = beats(client_there, 2)
        check(beats(client, 2) == before, "the guest beats at both sides")
        check(after["running"] and after["written"] >= before["written"] > 0, (before, after))
        for left, came in zip(before["vcpus"], after["vcpus"]):
            gap = (came["first-beat-ns"] - left["last-beat-ns"]) / 1e6
            check(left["last-beat-ns"] <= held, "it beat after it stopped")
            check(HELD * 1000 <= gap <= downtime + SLACK, f"stood still for {gap} ms, by the engine {downtime} ms")
            check(came["heartbeat"] == left["heartbeat"] + came["beats"], (left, came))
        check_guest(client_there)
        check(client_there.command("query-guest")["written"] >= after["written"], "pages were forgotten")


def query_guest__process_guest_moves__its_own_view_of_the_downtime():
    watch_move("--process")


def query_guest__kvm_guest_moves__its_own_view_of_the_downtime():
    need_kvm()
    watch_move("--kvm")


def stop_and_cont__of_an_incoming_guest__decide_how_it_arrives():
    with Ferry(FERRY) as ferry:
        there, client_there = ferry.guest("b", *EMPTY, "--incoming", "tcp:127.0.0.1:0")
        ferry.guest("a", *BUSY)
        client_there.command("stop")
        result = ferry.command("migrate", "--qmp", "unix:" + ferry.path("a"), "--quiet",
                               there.wait_line("listening on "))
        check(result.returncode == 0, result.stderr)
        there.wait_line("the guest arrived (paused)")
        check(not client_there.command("query-status")["running"], "it runs")
        client_there.command("cont")
        check(client_there.command("query-status")["running"], "it does not run")
        check_guest(client_there)


def fd__socket_pair_between_monitors__moves_the_guest():
    ours, theirs = socket.socketpair()
    with ours, theirs, Ferry(FERRY) as ferry:
        there = ferry.begin("run", *EMPTY, "--qmp", "unix:" + ferry.path("b"), "--incoming", f"fd:{theirs.fileno()}",
                            pass_fds=(theirs.fileno(),))
        there.wait_line("listening on ")
        ferry.guest("a", *BUSY)
        migration = ferry.begin("migrate", "--qmp", "unix:" + ferry.path("a"), f"fd:{ours.fileno()}",
                                pass_fds=(ours.fileno(),))
        check(migration.wait() == 0, migration.output)
        there.wait_line("the guest arrived (running)")
        check_guest(ferry.client("b"))


def signals__end_the_guest_cleanly():
    for number in (signal.SIGINT, signal.SIGTERM):
        with Ferry(FERRY) as ferry:
            process, client = ferry.guest("a", *BUSY)
            check(stat.S_IMODE(os.stat(ferry.path("a")).st_mode) == 0o600, "the socket's mode")
            process.process.send_signal(number)
            client.wait_event("SHUTDOWN", reason="host-signal")
            check(process.wait() == 0, process.output)
            check(not os.path.exists(ferry.path("a")), "the socket is left")


def second_monitor__on_the_same_socket__is_refused():
    with Ferry(FERRY) as ferry:
        ferry.guest("a", *BUSY)
        result = ferry.command("run", *EMPTY, "--qmp", "unix:" + ferry.path("a"))
        check(result.returncode == 1 and "another process listens" in result.stderr, result)


def paused__waits_for_cont():
    with Ferry(FERRY) as ferry:
        _, client = ferry.guest("a", *BUSY, "--paused")
        check(client.command("query-status") == {"status": "prelaunch", "singlestep": False, "running": False}, "status")
        client.command("cont")
        client.wait_event("RESUME")
        check(client.command("query-status")["running"], "it does not run")


def set__at_the_start__is_what_the_queries_tell():
    with Ferry(FERRY) as ferry:
        _, client = ferry.guest("a", *BUSY, "--set", "downtime-limit=77", "--set", "verify-ram=off")
        check(client.command("query-migrate-parameters")["downtime-limit"] == 77, "downtime-limit")
        states = {entry["capability"]: entry["state"] for entry in client.command("query-migrate-capabilities")}
        check(states["verify-ram"] is False and states["events"] is True, states)
    with Ferry(FERRY) as ferry:
        _, client = ferry.guest("a", *BUSY)
        states = {entry["capability"]: entry["state"] for entry in client.command("query-migrate-capabilities")}
        check(states["verify-ram"] is True, states)


EVERY_KIND = ("xbzrle-cache-size=1M", "max-bandwidth=2G", "downtime-limit=77", "multifd-channels=5",
              "multifd-compression=zlib", "direct-io=on", "compress-wait-thread=no", "tls-creds=", "rdma-pin-limit=0",
              "x-cpu-throttle-initial=33", "cpu-throttle-increment=34", "x-multifd=on", "validate-uuid=true", "events=off")
EVERY_KIND_SET = {"xbzrle-cache-size": 1 << 20, "max-bandwidth": 2 << 30, "downtime-limit": 77, "multifd-channels": 5,
                  "multifd-compression": "zlib", "direct-io": True, "compress-wait-thread": False, "tls-creds": "",
                  "rdma-pin-limit": 0, "cpu-throttle-initial": 33, "cpu-throttle-increment": 34, "multifd": True,
                  "validate-uuid": True, "events": False}


def settings_of(client):
    """Capabilities and parameters by name."""
    settings = {entry["capability"]: entry["state"] for entry in client.command("query-migrate-capabilities")}
    settings.update(client.command("query-migrate-parameters"))
    return settings


def set__of_every_kind__by_run_and_by_migrate():
    options = [word for option in EVERY_KIND for word in ("--set", option)]
    with Ferry(FERRY) as ferry:
        _, started = ferry.guest("a", *BUSY, *options)
        expected = {**settings_of(started), **EVERY_KIND_SET}
        check(settings_of(started) == expected, settings_of(started))
        _, told = ferry.guest("b", *BUSY)
        result = ferry.command("migrate", "--qmp", "unix:" + ferry.path("b"), *options, "unix:/nowhere/at-all")
        check(result.returncode == 1, result)
        check(settings_of(told) == expected, settings_of(told))


def set__needs_the_other__taken_in_any_order():
    with Ferry(FERRY) as ferry:
        _, client = ferry.guest("a", *BUSY, "--set", "zero-copy-send=on", "--set", "multifd=on")
        check(settings_of(client)["zero-copy-send"], settings_of(client))
        result = ferry.command("migrate", "--qmp", "unix:" + ferry.path("a"), "--set", "multifd=off", "--set",
                               "zero-copy-send=off", "--set", "xbzrle=on", "unix:/nowhere/at-all")
        check(result.returncode == 1 and settings_of(client)["xbzrle"], result)


def set__wrong_for_the_monitor__2_with_the_reason_and_nothing_of_it():
    wrong = {"multifd-compression=lzma": "none, zlib, zstd", "xbzrle-cache-size=5K": "a power of two",
             "max-cpu-throttle=5": "'cpu-throttle-initial'", "tls-creds=a": "reserved", "direct-io=7": "on or off",
             "announce-step=10001": "0 to 10000", "zero-copy-send=on": "needs 'multifd'",
             "downtime-limit=18446744073709551616": "an integer", "downtime-limit=": "an integer"}
    with Ferry(FERRY) as ferry:
        _, client = ferry.guest("a", *BUSY)
        before = settings_of(client)
        for option, words in wrong.items():
            result = ferry.command("migrate", "--qmp", "unix:" + ferry.path("a"), "--set", option, "tcp:127.0.0.1:1")
            check(result.returncode == 2 and words in result.stderr, f"{option}: {result}")
            check(settings_of(client) == before, f"{option}: {settings_of(client)}")


def commands__all_that_docs_qmp_md_lists__are_there():
    with open(os.path.join(SOURCE, "docs", "qmp.md"), encoding="utf-8") as text:
        rows = re.findall(r"^\| (`.*?) \|", text.read().split("## Commands")[1].split("\n## ")[0], re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([a-z_-]+)`", row)}
    with Ferry(FERRY) as ferry:
        _, client = ferry.guest("a", *BUSY)
        there = {entry["name"] for entry in client.command("query-commands")}
        check(documented == there - {"qmp_capabilities"}, documented ^ (there - {"qmp_capabilities"}))


def clients__several_and_broken_ones__do_not_disturb():
    with Ferry(FERRY) as ferry:
        _, client = ferry.guest("a", *BUSY)
        for text in ("", "{", "nonsense\n", '{"execute":', "\x00\xff", "[" * 5000):
            broken = Qmp(ferry.path("a"), negotiate=False)
            broken.send(text)
            broken.close()
        check(client.command("query-status")["running"], "it does not run")


def doctor__json__has_a_verdict_for_each_check():
    with Ferry(FERRY) as ferry:
        result = ferry.command("doctor", "--json")
        checks = json.loads(result.stdout)
        names = {entry["check"] for entry in checks}
        check({"kernel", "page size", "KVM", "dirty tracking", "userfaultfd", "locked memory", "RDMA"} <= names, names)
        for entry in checks:
            check(entry["verdict"] in ("ok", "warn", "missing") and entry["finding"], entry)
        missing = [entry for entry in checks if entry["required"] and entry["verdict"] == "missing"]
        check(result.returncode == bool(missing), result)


def doctor__peer__answers_or_not():
    with socket.create_server(("127.0.0.1", 0)) as listener, Ferry(FERRY) as ferry:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        result = ferry.command("doctor", "--peer", address)
        check(re.search(rf"^peer +ok +{re.escape(address)} answers", result.stdout, re.MULTILINE), result.stdout)
        listener.close()
        result = ferry.command("doctor", "--peer", address)
        check(result.returncode == 1, result)
        check(re.search(r"^peer +missing .*\n +-> start the destination", result.stdout, re.MULTILINE), result.stdout)


CASES = [(case.__name__, case) for case in (
    process_guest__moved__is_whole_and_runs_there_alone,
    kvm_guest__moved__is_whole_and_runs_there_alone,
    guest__there_and_back__is_whole,
    incoming__fails__says_why_and_takes_the_next,
    destination__killed_on_the_way__guest_stays_and_1,
    interrupt__while_copying__guest_stays,
    pause_before_switchover__continues_on_command,
    query_guest__process_guest_moves__its_own_view_of_the_downtime,
    query_guest__kvm_guest_moves__its_own_view_of_the_downtime,
    stop_and_cont__of_an_incoming_guest__decide_how_it_arrives,
    fd__socket_pair_between_monitors__moves_the_guest,
    signals__end_the_guest_cleanly,
    second_monitor__on_the_same_socket__is_refused,
    paused__waits_for_cont,
    set__at_the_start__is_what_the_queries_tell,
    set__of_every_kind__by_run_and_by_migrate,
    set__needs_the_other__taken_in_any_order,
    set__wrong_for_the_monitor__2_with_the_reason_and_nothing_of_it,
    commands__all_that_docs_qmp_md_lists__are_there,
    clients__several_and_broken_ones__do_not_disturb,
    doctor__json__has_a_verdict_for_each_check,
    doctor__peer__answers_or_not,
)]

if __name__ == "__main__":
    sys.exit(run(CASES, *sys.argv[3:]))
