# SPDX-License-Identifier: BSD-2-Clause
"""One migration under measurement, of a Ferry or of a QEMU, and what there is to know of it."""

import contextlib
import time

from common import GIB, MIB, UNLIMITED
from qmp import QmpError
from timeline import Timeline

TIMEOUT = 300
NS = 1e9
WATCHED = 0.5  # seconds of a guest's life before it moves


class Setting:
    """What one migration is. @kind: ferry or qemu; @channels: of multifd; @capabilities: both sides' names; @settings: the
    source's parameters; @limit: ms; @bandwidth: bytes a second; @timeline: its title, where one is wanted."""

    def __init__(self, kind, ram, scheme="tcp", channels=0, capabilities=(), source_capabilities=(), settings=None,
                 limit=None, bandwidth=None, workload="idle", fill="random", guest="process", prealloc=True,
                 beat_us=5000, timeout=TIMEOUT, timeline=None):
        self.kind, self.ram, self.scheme, self.channels = kind, ram, scheme, channels
        self.capabilities, self.settings = list(capabilities), dict(settings or {})
        self.source_capabilities = ["events", *source_capabilities]
        self.limit, self.bandwidth = limit, bandwidth
        self.workload, self.fill, self.guest, self.prealloc = workload, fill, guest, prealloc
        self.beat_us = beat_us
        self.timeout, self.timeline = timeout, timeline

    def of_ferry(self):
        return self.kind == "ferry"


def set_both(setting, hosts, numbers):
    names = setting.capabilities + (["multifd"] if setting.channels else [])
    parameters = {"multifd-channels": setting.channels} if setting.channels else {}
    for host, number in zip(hosts, numbers):
        if names:
            host.qmp(number, "migrate-set-capabilities",
                     {"capabilities": [{"capability": name, "state": True} for name in names]})
        if parameters:
            host.qmp(number, "migrate-set-parameters", parameters)


def set_source(setting, monitor):
    monitor.command("migrate-set-capabilities",
                    capabilities=[{"capability": name, "state": True} for name in setting.source_capabilities])
    more = dict(setting.settings)
    if setting.limit is not None:
        more["downtime-limit"] = setting.limit
    monitor.command("migrate-set-parameters", **{"max-bandwidth": setting.bandwidth or UNLIMITED, **more})


def start_sides(setting, stack, source_host, destination_host):
    shared = {"ram": setting.ram, "prealloc": setting.prealloc}
    source_only = {"fill": setting.fill}
    if setting.of_ferry():
        shared |= {"guest": setting.guest, "beat_us": setting.beat_us, "settings": ["verify-ram=off"] +
                   (["rdma-require=on"] if setting.scheme == "rdma" else [])}
        source_only["workload"] = setting.workload
    numbers = []
    for host, more in ((destination_host, {"incoming": True}), (source_host, source_only)):
        number = host.start(setting.kind, **shared, **more)["number"]
        stack.callback(host.stop, number)
        numbers.append(number)
    return numbers[::-1]


def wait_end(setting, monitor):
    """completed, or «does not converge» where it does not end in time."""
    try:
        monitor.wait_migration("completed", setting.timeout)
    except QmpError:
        if monitor.command("query-migrate").get("status") != "active":
            raise
        monitor.command("migrate_cancel")
        with contextlib.suppress(QmpError):
            monitor.wait_migration("cancelled", 30)
        return False
    return True


def wait_running(host, number):
    deadline = time.monotonic() + 60
    while host.qmp(number, "query-status")["status"] == "inmigrate":
        if time.monotonic() > deadline:
            raise QmpError("the destination stays in inmigrate")
        time.sleep(0.01)


def final_status(monitor):
    """QEMU says that it completed before it knows how long it took."""
    status = monitor.command("query-migrate")
    while not status.get("total-time"):
        time.sleep(0.01)
        status = monitor.command("query-migrate")
    return status


def written_rate(ask, seconds):
    """(pages a second that the guest writes, all that it wrote, when)"""
    first, begin = ask("query-guest")["written"], time.time()
    time.sleep(seconds)
    last, end = ask("query-guest")["written"], time.time()
    return (last - first) / (end - begin), last, end


def figures_of(setting, status, cpu, memory):
    seconds = status["total-time"] / 1e3
    first = status["rounds"][0] if status.get("rounds") else None
    return {
        "total-ms": status["total-time"], "setup-ms": status.get("setup-time"), "downtime-ms": status.get("downtime"),
        "rate": setting.ram / MIB / seconds, "bytes": status.get("wire-bytes") or status["ram"]["transferred"],
        "bulk": first["bytes"] / MIB / (first["time-us"] / 1e6) if first and first["time-us"] else None,
        "rounds": len(status["rounds"]) if "rounds" in status else status["ram"].get("dirty-sync-count"),
        "predicted-ms": status.get("predicted-downtime"), "transport": status.get("transport"),
        "cpu-source": cpu["source"] / (setting.ram / GIB), "cpu-destination": cpu["destination"] / (setting.ram / GIB),
        "cpu": sum(cpu.values()) / (setting.ram / GIB),
        "memory-source": memory["source"] / 1024, "memory-destination": memory["destination"] / 1024,
    }


def stand_still(source, destination, offset_ns):
    """(from, until) by this host's clock: from the guest's last beat at the source to its first at the destination, of the
    vCPU for which that is the longest."""
    spans = [(here["last-beat-ns"], there["first-beat-ns"] - offset_ns)
             for here, there in zip(source["vcpus"], destination["vcpus"]) if here.get("last-beat-ns")]
    return max(spans, key=lambda span: span[1] - span[0])


def wait_beat(ask):
    """Until every vCPU has beaten at the destination."""
    deadline = time.monotonic() + 10
    while True:
        guest = ask("query-guest")
        if all(vcpu.get("first-beat-ns") for vcpu in guest["vcpus"]):
            return guest
        if time.monotonic() > deadline:
            raise QmpError("the guest does not beat at the destination")
        time.sleep(0.005)


class Migration:
    """One migration under way."""

    def __init__(self, setting, stack, source_host, destination_host):
        self.setting = setting
        self.hosts = {"source": source_host, "destination": destination_host}
        source, destination = start_sides(setting, stack, source_host, destination_host)
        self.numbers = {"source": source, "destination": destination}
        set_both(setting, (source_host, destination_host), (source, destination))
        self.monitor = source_host.monitor(source)
        set_source(setting, self.monitor)
        self.uri = destination_host.listen(destination, setting.scheme)
        self.timeline = None
        if setting.timeline:
            beside = source_host.another_monitor(source)
            stack.callback(beside.close)
            self.timeline = Timeline(setting.timeline, beside, self.ask_destination)

    def ask_destination(self, command):
        return self.hosts["destination"].qmp(self.numbers["destination"], command)

    def each(self, call):
        return {side: getattr(host, call)(self.numbers[side]) for side, host in self.hosts.items()}

    def run(self):
        with self.timeline or contextlib.nullcontext():
            before = self.each("cpu")
            self.monitor.command("migrate", uri=self.uri)
            arriving = self.arriving() if self.setting.of_ferry() and self.setting.workload == "idle" else {}
            if not wait_end(self.setting, self.monitor):
                return None
            wait_running(self.hosts["destination"], self.numbers["destination"])
            after = self.each("cpu")
            status = final_status(self.monitor)
        transport = status.get("transport")
        if self.setting.scheme == "rdma" and transport not in (None, "rdma"):
            raise QmpError(f"the pages went over {transport}")
        cpu = {side: after[side] - before[side] for side in after}
        return status, arriving | figures_of(self.setting, status, cpu, self.each("peak_memory"))

    def arriving(self):
        """The destination's CPU time as a part of the source's from the first page on until the guest stops: without
        what setting up takes, and without the hand-over."""
        self.monitor.wait_pass(1, self.setting.timeout)
        first = self.each("cpu")
        self.monitor.wait_migration("device", self.setting.timeout)
        last = self.each("cpu")
        took = {side: last[side] - first[side] for side in last}
        return {"cpu-arriving": took["destination"] / took["source"] if took["source"] else None}


def busy_figures(measured, offset_ns, before):
    """What the guest itself saw, and how fast it was meanwhile. @before: of written_rate()."""
    speed, written, since = before
    source = measured.monitor.command("query-guest")
    destination = wait_beat(measured.ask_destination)
    stood = stand_still(source, destination, offset_ns)
    if measured.timeline:
        measured.timeline.mark("guest stands still", *stood)
    during = (source["written"] - written) / max(source["vcpus"][0]["last-beat-ns"] / NS - since, 1e-3)
    return {"heartbeat-ms": (stood[1] - stood[0]) / 1e6,
            "beat-ms": source["beat-interval-us"] / 1e3,
            "guest-speed": during / speed if speed else None, "guest-pages-rate": speed}


def migrate(setting, source_host, destination_host):
    """Figures as a dict, with "timeline" where one was asked for, and "converged"; everything of it ends with it."""
    with contextlib.ExitStack() as stack:
        measured = Migration(setting, stack, source_host, destination_host)
        busy = setting.of_ferry() and setting.workload != "idle"
        before = written_rate(measured.monitor.command, WATCHED) if busy else None
        ended = measured.run()
        if not ended:
            return {"converged": False}
        status, figures = ended
        figures |= {"converged": True}
        if setting.of_ferry():
            figures["round-figures"] = status.get("rounds")
        if setting.scheme == "rdma" and setting.of_ferry():
            figures["first-write-ms"] = measured.monitor.command("query-rdma").get("first-write-us", 0) / 1e3 or None
        if busy:
            figures |= busy_figures(measured, destination_host.clock_offset()[0], before)
        if measured.timeline:
            figures["timeline"] = measured.timeline.data()
        return figures
