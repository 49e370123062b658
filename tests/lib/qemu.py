# SPDX-License-Identifier: BSD-2-Clause
"""A QEMU under test: started, spoken to over QMP, and killed at the end."""

import json
import os
import shutil
import socket
import subprocess

from cases import check, wait_for

PROGRAM = shutil.which("qemu-system-x86_64")


class Qemu:
    """@directory is its own; it gets the QMP socket, the serial port's output and stderr."""

    def __init__(self, directory, *arguments):
        os.makedirs(directory, exist_ok=True)
        self.serial_path = os.path.join(directory, "serial")
        self.log_path = os.path.join(directory, "stderr")
        qmp_path = os.path.join(directory, "qmp")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "-accel", "tcg", "-display", "none", "-nodefaults", "-no-reboot",
                 "-qmp", f"unix:{qmp_path},server=on,wait=off",
                 "-serial", f"file:{self.serial_path}", *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        wait_for(lambda: self._connect(qmp_path), "QMP socket")
        self.stream = self.socket.makefile("rw")
        self.stream.readline()
        self.qmp("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait()
        self.stream.close()
        self.socket.close()

    def _connect(self, path):
        check(self.process.poll() is None, f"QEMU exited early: {self.log()}")
        try:
            self.socket.connect(path)
            return True
        except OSError:
            return False

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def qmp(self, command, **arguments):
        """Returns what the command returns; events in between are dropped."""
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.stream.flush()
        while True:
            answer = json.loads(self.stream.readline())
            check("error" not in answer, f"{command}: {answer.get('error')}")
            if "return" in answer:
                return answer["return"]

    def status(self):
        return self.qmp("query-status")["status"]

    def capability(self, name, state):
        self.qmp("migrate-set-capabilities", capabilities=[{"capability": name, "state": state}])

    def migration(self):
        return self.qmp("query-migrate").get("status", "none")

    def migrate(self, uri):
        """To the end; returns completed or failed."""
        self.qmp("migrate", uri=uri)
        return self.migration_end()

    def migration_end(self):
        return wait_for(lambda: self.migration() in ("completed", "failed") and self.migration(),
                        "the migration's end")
