# SPDX-License-Identifier: BSD-2-Clause
"""Writes migration streams by hand, so that tests can say what no monitor would."""

import json
import struct

PAGE = 4096
ZERO, MEM_SIZE, FULL_PAGE, EOS, CONTINUE = 0x02, 0x04, 0x08, 0x10, 0x20
FERRY = 0x4652


def name(text):
    return struct.pack(">B", len(text)) + text.encode()


def begin(machine="test-1.0"):
    return b"QEVM" + struct.pack(">IBI", 3, 7, len(machine)) + machine.encode()


def command(number, data=b""):
    return struct.pack(">BHH", 8, number, len(data)) + data


def record(kind, payload=b"", flags=0):
    """One of Ferry's own."""
    return command(FERRY, struct.pack(">HBBI", kind, 1, flags, len(payload)) + payload)


def advise(page_sizes=PAGE):
    return command(3, struct.pack(">QQ", page_sizes, PAGE))


def discard(block, *ranges):
    """@ranges: (start, length), bytes."""
    return command(6, b"\0" + name(block) + b"\0" + b"".join(struct.pack(">QQ", *each) for each in ranges))


def package(content):
    return command(7, struct.pack(">I", len(content))) + content


def footer(section):
    return struct.pack(">BI", 0x7e, section)


def ram_start(blocks, section=2):
    """@blocks: name to bytes."""
    body = struct.pack(">Q", sum(blocks.values()) | MEM_SIZE)
    for block, size in blocks.items():
        body += name(block) + struct.pack(">Q", size)
    return (struct.pack(">BI", 1, section) + name("ram") + struct.pack(">II", 0, 4) + body +
            struct.pack(">Q", EOS) + footer(section))


def page(block, offset, content=None):
    """@content: 4096 bytes, or None for a zero page."""
    flags = ZERO if content is None else FULL_PAGE
    return struct.pack(">Q", offset | flags) + name(block) + (content or b"\0")


def xbzrle(block, offset, data):
    """What changed in the page that is there."""
    return struct.pack(">Q", offset | 0x40) + name(block) + struct.pack(">BH", 1, len(data)) + data


def compressed(block, offset, data):
    """@data: zlib's."""
    return struct.pack(">Q", offset | 0x100) + name(block) + struct.pack(">I", len(data)) + data


def multifd_init(channel, magic=0x11223344, version=1):
    return struct.pack(">II16sB39x", magic, version, b"", channel)


def multifd_packet(block="", pages=(), sync=False, number=0, flags=0, size=None):
    """@pages: (offset, content); @size: what the header says of the bytes behind it."""
    content = b"".join(each for _, each in pages)
    return (struct.pack(">IIIIIIQ32x256s", 0x11223344, 1, flags | sync, 128, len(pages),
                        len(content) if size is None else size, number, block.encode()) +
            b"".join(struct.pack(">Q", offset) for offset, _ in pages) + bytes(8 * (128 - len(pages))) + content)


def ram_part(*pages, last=False, section=2):
    return (struct.pack(">BI", 3 if last else 2, section) + b"".join(pages) + struct.pack(">Q", EOS) +
            footer(section))


def device(kind, body, section=5, instance=0, version=1):
    return (struct.pack(">BI", 4, section) + name(kind) + struct.pack(">II", instance, version) + body +
            footer(section))


def description(*devices):
    """@devices: (name, bytes of the body)."""
    text = json.dumps({"page_size": PAGE, "devices": [
        {"name": kind, "instance_id": 0, "vmsd_name": kind, "version": 1,
         "fields": [{"name": "all", "type": "buffer", "size": size}]} for kind, size in devices]})
    return struct.pack(">BI", 6, len(text)) + text.encode()


def tail():
    """One device, EOF, and the description."""
    return device("test", b"state") + b"\0" + description(("test", 5))
