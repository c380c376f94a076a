"""Arithmetic on etcd's key ranges.

etcd knows half-open ranges ``[key, range_end)``. "Every key under a prefix" is the range that ends at the smallest
key greater than all of them: the prefix with its last byte raised by one, carrying over 0xff bytes:

    b"/registry/pods/"  ->  b"/registry/pods0"
    b"a\\xff"            ->  b"b"
    b"\\xff\\xff"         ->  b"\\x00"   (etcd's spelling of "to the end of the key space")
"""

from __future__ import annotations

# As a range's end: no end. As its start: the smallest key there is (etcd does not take empty keys).
ZERO = b"\x00"


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys under ``prefix``; :data:`ZERO` where that range has no end."""
    trimmed = prefix.rstrip(b"\xff")
    if not trimmed:
        return ZERO
    return trimmed[:-1] + bytes((trimmed[-1] + 1,))
