"""The pause program, byte by byte.

A pod's sandbox needs a process that does nothing, holds the pod's namespaces, reaps orphans that a shared PID
namespace hands to it, and ends at once on SIGTERM. That is a handful of system calls, so the program is assembled
here instead of asking a fresh machine for a compiler. In words::

    rt_sigaction(SIGCHLD, {SIG_DFL, SA_NOCLDWAIT|SA_RESTORER}, 0, 8)     the kernel reaps children for us
    rt_sigaction(SIGTERM, {leave, SA_RESTORER}, 0, 8)                    as PID 1 the default would be "ignore"
    rt_sigaction(SIGINT,  {leave, SA_RESTORER}, 0, 8)
    for (;;) pause();
    leave: exit(0)

The file is one ELF header, one loadable segment and the code, for x86-64 or AArch64 (which has no ``pause``:
``ppoll(0, 0, 0, 0)`` waits the same way).
"""

from __future__ import annotations

import struct

_BASE = 0x400000
_HEADERS = 64 + 56  # ELF header and one program header
_SA_NOCLDWAIT, _SA_RESTORER = 0x2, 0x04000000
_SIGINT, _SIGTERM, _SIGCHLD = 2, 15, 17


def _x86_64() -> bytes:
    """Machine code followed by the three ``struct kernel_sigaction`` values it points at."""

    def mov_eax(value: int) -> bytes:
        return b"\xb8" + struct.pack("<I", value)

    def sigaction(number: int, address: int) -> bytes:
        return (
            b"\xbf" + struct.pack("<I", number)  # mov edi, number
            + b"\xbe" + struct.pack("<I", address)  # mov esi, address of the action
            + b"\x31\xd2"  # xor edx, edx
            + b"\x41\xba" + struct.pack("<I", 8)  # mov r10d, 8
            + mov_eax(13) + b"\x0f\x05"  # rt_sigaction
        )  # fmt: skip

    loop = mov_eax(34) + b"\x0f\x05" + b"\xeb\xf7"  # pause; jump back over 9 bytes
    leave = b"\x31\xff" + mov_eax(60) + b"\x0f\x05"  # exit(0)
    size = 3 * len(sigaction(0, 0)) + len(loop) + len(leave)
    start = _BASE + _HEADERS
    leave_at = start + size - len(leave)
    data_at = start + size
    actions = _action(0, _SA_NOCLDWAIT | _SA_RESTORER, leave_at) + _action(leave_at, _SA_RESTORER, leave_at)
    code = (
        sigaction(_SIGCHLD, data_at)
        + sigaction(_SIGTERM, data_at + 32)
        + sigaction(_SIGINT, data_at + 32)
        + loop
        + leave
    )
    return code + actions


def _aarch64() -> bytes:
    """The same for AArch64, whose signal actions need no restorer."""

    def movz(register: int, value: int) -> int:
        return 0xD2800000 | (value & 0xFFFF) << 5 | register

    def movk16(register: int, value: int) -> int:
        return 0xF2A00000 | (value >> 16 & 0xFFFF) << 5 | register

    svc = 0xD4000001

    def sigaction(number: int, address: int) -> list[int]:
        return [
            movz(0, number),
            movz(1, address),
            movk16(1, address),
            movz(2, 0),
            movz(3, 8),
            movz(8, 134),
            svc,
        ]

    loop = [movz(0, 0), movz(1, 0), movz(2, 0), movz(3, 0), movz(8, 73), svc, 0x14000000 | (-6 & 0x3FFFFFF)]
    leave = [movz(0, 0), movz(8, 93), svc]
    words = 3 * 7 + len(loop) + len(leave)
    words += words % 2  # the actions that follow are aligned to 8 bytes
    start = _BASE + _HEADERS
    leave_at = start + 4 * (3 * 7 + len(loop))
    data_at = start + 4 * words
    code = (
        sigaction(_SIGCHLD, data_at)
        + sigaction(_SIGTERM, data_at + 32)
        + sigaction(_SIGINT, data_at + 32)
        + loop
        + leave
    )
    code += [svc] * (words - len(code))
    actions = _action(0, _SA_NOCLDWAIT, 0) + _action(leave_at, 0, 0)
    return struct.pack(f"<{len(code)}I", *code) + actions


def _action(handler: int, flags: int, restorer: int) -> bytes:
    """``struct kernel_sigaction``: handler, flags, restorer, mask; 32 bytes."""
    return struct.pack("<QQQQ", handler, flags, restorer, 0)


_MACHINES = {"amd64": (62, _x86_64), "arm64": (183, _aarch64)}


def pause_program(architecture: str) -> bytes:
    """The executable for ``amd64`` or ``arm64``. Raises ValueError for another architecture."""
    if architecture not in _MACHINES:
        raise ValueError(f"no pause program for architecture {architecture!r}; known: {', '.join(_MACHINES)}")
    machine, assemble = _MACHINES[architecture]
    code = assemble()
    size = _HEADERS + len(code)
    identity = b"\x7fELF" + bytes((2, 1, 1, 0)) + bytes(8)
    header = identity + struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code
