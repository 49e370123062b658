# SPDX-License-Identifier: BSD-2-Clause
"""The stages of ./check: static checks, then the tests in a plain build, over RDMA, and under sanitizers.

Every TAP case of every stage counts. A case that cannot run here is skipped with its reason; a program
that crashes, hangs or does not build is a failure.
"""

import glob
import json
import os
import platform
import re
import subprocess
import sys
import time

from tap import Count, count_program

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOGS = os.path.join(ROOT, "build", "logs")
# No stack or leak report may pass unseen; abort() is what the harness of a crashed program shows best.
SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:abort_on_error=1:detect_stack_use_after_return=1:"
                    "allocator_may_return_null=1",  # as malloc() does: tests ask for more than there is
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:abort_on_error=1",
    "LSAN_OPTIONS": "print_suppressions=0",
    # Memory that glib's slices keep is seen by no sanitizer, and changes threads under locks that none sees.
    "G_SLICE": "always-malloc",
    "TSAN_OPTIONS": "halt_on_error=0:exitcode=66:second_deadlock_stack=1:allocator_may_return_null=1:suppressions="
                    + os.path.join(ROOT, "tests", "lib", "tsan.supp"),
}
REPORT = re.compile(r"ERROR: |runtime error: |-ERROR \*\*|-CRITICAL \*\*|Assertion ")
REPORT_LINES = 25
# Lines are all that a report names: less to compile.
SANITIZER_OPTIONS = ["-Dwerror=true", "-Dbuildtype=debugoptimized", "-Doptimization=1", "-Dc_args=-g1"]
# Slow as they are there, many tests wait more than they work.
SANITIZER_PROCESSES = ["--num-processes", str((os.cpu_count() or 1) + 1)]


class Stage:
    """A line of the final table."""

    def __init__(self, name):
        self.name = name
        self.count = Count()
        self.seconds = 0.0


def run_logged(argv, log, environment=None):
    """Runs a command with its output in the file log; returns its status."""
    with open(log, "ab") as out:
        out.write(("$ " + " ".join(argv) + "\n").encode())
        out.flush()
        return subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                              env={**os.environ, **(environment or {})}, check=False).returncode


def show_tail(log, lines=25):
    with open(log, errors="replace", encoding="utf-8") as text:
        for line in text.read().splitlines()[-lines:]:
            print("    " + line)


def build(stage, folder, options):
    """Configures (again) and builds; a failure is one failed case."""
    log = os.path.join(LOGS, stage.name + "-build.log")
    ready = os.path.exists(os.path.join(ROOT, folder, "build.ninja"))
    setup = ["meson", "setup", *(["--reconfigure"] if ready else []), folder, "-Dtests=enabled", *options]
    if run_logged(setup, log) == 0 and run_logged(["ninja", "-C", folder], log) == 0:
        return True
    stage.count.failed.append(f"build of {folder} (log: {os.path.relpath(log, ROOT)})")
    show_tail(log)
    return False


def list_tests(folder, wanted):
    """The meson names of the tests for which wanted(suites, path of the program or script) holds."""
    text = subprocess.run(["meson", "introspect", "--tests", folder], cwd=ROOT, check=True, capture_output=True,
                          text=True).stdout
    names = []
    for test in json.loads(text):
        suites = {suite.split(":")[-1] for suite in test["suite"]}
        command = " ".join(os.path.relpath(word, ROOT) if word.startswith("/") else word for word in test["cmd"])
        if wanted(suites, command):
            names.append(test["name"])
    return sorted(set(names))


def describe_end(record):
    """With what a program that crashed or hung wrote last, from the headline of its report on if there is one."""
    result, status = record["result"], record.get("returncode")
    if result != "TIMEOUT" and (status is None or status >= 0):
        return f"{result.lower()}, status {status}"
    end = "timed out" if result == "TIMEOUT" else f"died of signal {-status}"
    said = (record.get("stderr") or "").splitlines()
    headline = next((i for i, line in enumerate(said) if REPORT.search(line)), max(0, len(said) - REPORT_LINES))
    return "\n        ".join([end, *said[headline:headline + REPORT_LINES]])


def log_files(folder):
    """meson's logs of the last test run: a wrapper's name becomes part of theirs."""
    return glob.glob(os.path.join(ROOT, folder, "meson-logs", "testlog*.json"))


def count_log(stage, folder):
    """Counts every case in meson's log, and keeps the output of each program that failed."""
    records = []
    for path in log_files(folder):
        with open(path, encoding="utf-8") as log:
            records += [json.loads(line) for line in log]
    for record in records:
        name = record["name"].split(" / ")[-1].split(":")[-1].strip()
        well = record["result"] in ("OK", "SKIP", "EXPECTEDFAIL")
        count = count_program(name, record.get("stdout") or "", well, describe_end(record))
        stage.count.add(count)
        if count.failed:
            keep = os.path.join(LOGS, f"{stage.name}-{name}.log")
            with open(keep, "w", encoding="utf-8") as out:
                out.write("$ " + " ".join(record["command"]) + "\n" + (record.get("stdout") or "")
                          + "\n--- stderr ---\n" + (record.get("stderr") or ""))
            stage.count.failed[-1] += f"\n      log: {os.path.relpath(keep, ROOT)}"
    return len(records)


def run_tests(stage, folder, names, multiplier=1, wrapper=(), machine=(), more=()):
    """@wrapper goes before each program, @machine before meson, @more are its options."""
    log = os.path.join(LOGS, stage.name + "-meson.log")
    for old in log_files(folder):
        os.unlink(old)
    argv = [*machine, "meson", "test", "-C", folder, "--no-rebuild", "-t", str(multiplier), *more, *names]
    if wrapper:
        argv.append("--wrapper=" + " ".join(wrapper))
    status = run_logged(argv, log, SANITIZER_ENVIRONMENT)
    ran = count_log(stage, folder)
    if ran < len(names) or (status and not stage.count.failed):
        stage.count.failed.append(f"meson test in {folder}: {ran} of {len(names)} programs ran "
                                  f"(log: {os.path.relpath(log, ROOT)})")
        show_tail(log)


def static_stage(stage):
    result = subprocess.run([sys.executable, "tests/static/test-static.py"], cwd=ROOT, text=True, check=False,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    stage.count.add(count_program("static", result.stdout, result.returncode == 0,
                                  f"status {result.returncode}"))
    if stage.count.failed:
        print(result.stdout, end="")


def plain_stage(stage, fast):
    folder = "build/check"
    if not build(stage, folder, ["-Dwerror=true", "-Dbuildtype=debugoptimized"]):
        return
    run_tests(stage, folder, list_tests(folder, lambda suites, path: "softroce" not in suites and
                                        (not fast or "unit" in suites)))


def address_stage(stage):
    folder = "build/asan"
    if not build(stage, folder, [*SANITIZER_OPTIONS, "-Db_sanitize=address,undefined"]):
        return
    suites_here = {"unit", "flow", "qmp", "cli"}
    run_tests(stage, folder, list_tests(folder, lambda suites, path: suites & suites_here), multiplier=4,
              more=SANITIZER_PROCESSES)


def thread_wrapper():
    """What makes a program under the thread sanitizer start here: nothing, or setarch -R (older sanitizer
    runtimes die where the kernel randomises addresses over more bits than they know). None if neither."""
    probe = os.path.join(LOGS, "tsan-probe")
    with open(probe + ".c", "w", encoding="utf-8") as out:
        out.write("#include <pthread.h>\nstatic void *f(void *p) { return p; }\n"
                  "int main(void) { pthread_t t; return pthread_create(&t, 0, f, 0) || pthread_join(t, 0); }\n")
    if run_logged(["cc", "-fsanitize=thread", "-o", probe, probe + ".c"], probe + ".log"):
        return None
    for wrapper in ([], ["setarch", platform.machine(), "-R"]):
        if all(run_logged([*wrapper, probe], probe + ".log") == 0 for _ in range(5)):
            return wrapper
    return None


def thread_stage(stage):
    folder = "build/tsan"
    wrapper = thread_wrapper()
    if wrapper is None:
        stage.count.skipped.append(("thread sanitizer", "programs built with it do not start here, "
                                    "not even under setarch -R (log: build/logs/tsan-probe.log)"))
        return
    if not build(stage, folder, [*SANITIZER_OPTIONS, "-Db_sanitize=thread"]):
        return
    # Programs of our own that have threads; the guests' memory is too much work under this sanitizer.
    threaded = re.compile(r"/tests/(unit/(engine|rdma|tcp-fallback)|qmp|flow)/test-[\w-]+( |$)")
    glib_locks = os.path.join(ROOT, folder, "tests", "libtsan-glib.so")
    run_tests(stage, folder, list_tests(folder, lambda suites, path: threaded.search(path)),
              multiplier=6, wrapper=["env", "LD_PRELOAD=" + glib_locks, *wrapper], more=SANITIZER_PROCESSES)


def softroce_stage(stage):
    """What needs RDMA: here if this host has a device, else in one machine of tests/softroce/run."""
    folder = "build/check"
    names = list_tests(folder, lambda suites, path: "softroce" in suites)
    if glob.glob("/sys/class/infiniband/*"):
        run_tests(stage, folder, names)
        return
    machine = os.path.join(ROOT, "tests", "softroce", "run")
    ready = subprocess.run([machine, "--prepare"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                           check=False)
    if ready.returncode:
        stage.count.skipped.append(("over RDMA", ready.stderr.strip().splitlines()[-1]))
        return
    run_tests(stage, folder, names, machine=[machine, "--timeout", "1800", "--results",
                                             os.path.join(folder, "meson-logs")])


def print_skipped(skipped):
    """By reason, since one cause often skips many."""
    by_reason = {}
    for name, reason in sorted(set(skipped)):
        by_reason.setdefault(reason, []).append(name)
    print("\nskipped:")
    for reason, names in by_reason.items():
        print(f"  {reason}")
        for name in names:
            print(f"    {name}")


def report(stages):
    total = Count()
    print(f"\n{'stage':10}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for stage in stages:
        count = stage.count
        total.add(count)
        print(f"{stage.name:10}{count.passed:8}{len(count.failed):8}{len(count.skipped):9}{stage.seconds:9.1f}")
    if total.skipped:
        print_skipped(total.skipped)
    if total.failed:
        print("\nfailed:")
        for stage in stages:
            for name in stage.count.failed:
                print(f"  [{stage.name}] {name}")
    if not total.passed:
        print("\nnothing passed: that is a failure")
    print(f"\n{total.passed} passed, {len(total.failed)} failed, {len(total.skipped)} skipped", flush=True)
    return 1 if total.failed or not total.passed else 0


def main():
    fast = "--fast" in sys.argv[1:]
    os.makedirs(LOGS, exist_ok=True)
    for name in os.listdir(LOGS):
        os.unlink(os.path.join(LOGS, name))
    plan = [("static", static_stage), ("plain", lambda stage: plain_stage(stage, fast))]
    if not fast:
        plan += [("softroce", softroce_stage), ("address", address_stage), ("thread", thread_stage)]
    stages = []
    for name, run in plan:
        stage = Stage(name)
        stages.append(stage)
        print(f"== {name}", flush=True)
        begin = time.monotonic()
        run(stage)
        stage.seconds = time.monotonic() - begin
        if any(failure.startswith("build of") for failure in stage.count.failed):
            print("The stages after it are left out: they would not build either.")
            break
    return report(stages)


if __name__ == "__main__":
    sys.exit(main())
