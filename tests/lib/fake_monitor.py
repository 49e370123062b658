# SPDX-License-Identifier: BSD-2-Clause
"""A QMP server that answers what a test tells it to."""

import array
import json
import os
import socket
import threading

GREETING = {"QMP": {"version": {"qemu": {"major": 9, "minor": 9, "micro": 9}, "package": ""}, "capabilities": []}}


class OneByOne(list):
    """Answers that are used up in order; the last one stays."""


class FakeMonitor:
    """Serves one client. answers: command -> a value, an error's text ("error: ..."), None for hanging up, or
    OneByOne of them."""

    def __init__(self, path, answers, greeting=GREETING):
        self.answers = {"qmp_capabilities": {}, "query-status": {"status": "running", "running": True}, **answers}
        self.greeting = greeting
        self.requests = []     # (command, arguments), in order
        self.descriptors = []  # passed with getfd
        self.seen = {}         # command -> threading.Event
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(1)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        try:
            client, _ = self.listener.accept()
        except OSError:
            return
        with client:
            client.sendall(json.dumps(self.greeting).encode() + b"\r\n")
            buffer = b""
            while True:
                data, ancillary, _, _ = client.recvmsg(65536, 1024)
                if not data:
                    return
                for _, _, payload in ancillary:
                    numbers = array.array("i")
                    numbers.frombytes(payload)
                    self.descriptors += numbers
                buffer += data
                while b"\n" in buffer:
                    line, buffer = buffer.split(b"\n", 1)
                    if not self._answer(client, json.loads(line)):
                        return

    def _answer(self, client, request):
        command = request["execute"]
        answer = self.answers.get(command, f"error: The command {command} has not been found")
        if isinstance(answer, OneByOne):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if answer is None:
            return False
        if isinstance(answer, str) and answer.startswith("error: "):
            message = {"error": {"class": "GenericError", "desc": answer[len("error: "):]}}
        else:
            message = {"return": answer}
        with self.lock:
            self.requests.append((command, request.get("arguments", {})))
            self.seen.setdefault(command, threading.Event()).set()
        client.sendall(json.dumps(message).encode() + b"\r\n")
        return True

    def wait_request(self, command):
        with self.lock:
            event = self.seen.setdefault(command, threading.Event())
        if not event.wait(30):
            raise AssertionError(f"{command} was not asked for")

    def arguments(self, command):
        """Those of the last such request."""
        return [arguments for name, arguments in self.requests if name == command][-1]

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.thread.join(30)
        for number in self.descriptors:
            os.close(number)
