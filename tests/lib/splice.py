# SPDX-License-Identifier: BSD-2-Clause
"""Joins standard input and output to a Unix socket, for exec: URIs. Usage: splice.py listen|connect PATH"""

import os
import socket
import sys
import threading
import time


def joined(how, path):
    if how == "listen":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            return listener.accept()[0]
    end = socket.socket(socket.AF_UNIX)
    while True:
        try:
            end.connect(path)
            return end
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.01)


def copy(read, write, done):
    while data := read(1 << 20):
        while data:
            data = data[write(data):]
    done()


def main():
    end = joined(*sys.argv[1:])
    forth = threading.Thread(target=copy, daemon=True,
                             args=(lambda n: os.read(0, n), end.send, lambda: end.shutdown(socket.SHUT_WR)))
    forth.start()
    copy(end.recv, lambda data: os.write(1, data), lambda: os.close(1))
    forth.join()


main()
