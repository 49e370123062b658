# SPDX-License-Identifier: BSD-2-Clause
"""
A guest without a kernel: a multiboot program of some hundred bytes that keeps writing to RAM, checks what
it wrote a round before, and counts on the serial port, a line a step: eight hex digits, and an exclamation
mark from the first page on that was not as it was left.
"""

import struct

LOAD = 0x100000

# Counter at 2 MiB. Each step writes its number to 64 pages of a window of 16 MiB that begins at 16 MiB, and
# comes by again 64 steps later.
CODE = bytes.fromhex(
    "bf00002000"      # mov edi, 0x200000
    "31db"            # xor ebx, ebx              ; 1 once a page was wrong
    # step:
    "8b07"            # mov eax, [edi]
    "40"              # inc eax
    "8907"            # mov [edi], eax
    "89c5"            # mov ebp, eax
    "89c2"            # mov edx, eax
    "83ea40"          # sub edx, 64               ; what the pages must hold
    "7302"            # jae +2
    "31d2"            # xor edx, edx
    "89c6"            # mov esi, eax
    "c1e612"          # shl esi, 18
    "81e6ffffff00"    # and esi, 0xffffff
    "81c600000001"    # add esi, 0x1000000
    "b940000000"      # mov ecx, 64
    # page:
    "3916"            # cmp [esi], edx
    "7405"            # je +5
    "bb01000000"      # mov ebx, 1
    "8906"            # mov [esi], eax
    "81c600100000"    # add esi, 4096
    "49"              # dec ecx
    "75ec"            # jnz page
    "baf8030000"      # mov edx, 0x3f8
    "b908000000"      # mov ecx, 8
    # digit:
    "c1c504"          # rol ebp, 4
    "89e8"            # mov eax, ebp
    "240f"            # and al, 15
    "0430"            # add al, '0'
    "3c39"            # cmp al, '9'
    "7602"            # jbe +2
    "0427"            # add al, 'a' - '9' - 1
    "ee"              # out dx, al
    "49"              # dec ecx
    "75ed"            # jnz digit
    "85db"            # test ebx, ebx
    "7403"            # jz +3
    "b021"            # mov al, '!'
    "ee"              # out dx, al
    "b00a"            # mov al, newline
    "ee"              # out dx, al
    # mov ecx, and how long to wait
)
WAIT = (
    # wait:
    b"\x49"           # dec ecx
    b"\x75\xfd"       # jnz wait
)
STEP = 7  # where a step begins in the code


def image(wait=0x400000):
    """For -kernel: the multiboot header with load addresses, the code, and the jump back to its step. Between two steps
    it counts to @wait."""
    flags = 1 << 16
    magic = 0x1BADB002
    header = struct.pack("<8I", magic, flags, (-magic - flags) & 0xffffffff, LOAD, LOAD, 0, 0, LOAD + 32)
    code = CODE + struct.pack("<BI", 0xb9, wait) + WAIT
    jump = b"\xe9" + struct.pack("<i", STEP - (len(code) + 5))
    return header + code + jump


def lines(path):
    """The whole lines that the guest printed, as (counter, good); what the firmware printed is left out."""
    with open(path, "rb") as serial:
        text = serial.read()
    found = []
    for line in text[:text.rfind(b"\n") + 1].splitlines():
        digits = line.rstrip(b"!")
        try:
            found.append((int(digits[-8:], 16), digits == line))
        except ValueError:
            pass
    return found
