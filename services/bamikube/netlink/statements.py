"""nftables statements that know two languages: the kernel's bytes and ``nft``'s text.

A :class:`Statement` is a value; two with the same bytes are the same statement. The planner composes rules of them, the
golden tests read their text, the encoder joins their bytes. The text is what ``nft list ruleset`` prints for the bytes,
so a person can compare the two.

Registers: nftables computes in sixteen 32-bit registers. A concatenated key ``ip daddr . meta l4proto . th dport`` is
loaded into consecutive registers, each field starting on a register of its own, and looked up as one byte string::

    register    8             9               10
    bytes       0a 60 00 0a   06 00 00 00     00 50 00 00        10.96.0.10 . tcp . 80

Registers 8-11 are the first 128-bit register (number 1 in older numbering, which ``nft`` still uses when a value starts
there). Source for the numbers: the kernel's ``linux/netfilter/nf_tables.h``, as pyroute2 mirrors it.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from pyroute2.netlink.nfnetlink.nftsocket import Cmp, Meta, Regs

from bamikube.netlink.wire import attr, be32, nest, text

# attribute numbers, by the expression they belong to
_EXPR_NAME, _EXPR_DATA, _LIST_ELEM = 1, 2, 1
_DATA_VALUE, _DATA_VERDICT = 1, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2

DROP, ACCEPT = 0, 1
JUMP, GOTO, RETURN = -3, -4, -5

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
PROTOCOL_NAMES = {6: "tcp", 17: "udp", 132: "sctp"}

_FIRST = int(Regs.NFT_REG_1)
_R32 = int(Regs.NFT_REG32_00)


@dataclass(frozen=True, slots=True)
class Statement:
    """``text`` as ``nft`` writes it, ``code`` as the kernel takes it (a run of expression attributes)."""

    text: str
    code: bytes


def _register(index: int) -> int:
    """The number of the ``index``-th 32-bit register, in the form ``nft`` itself emits."""
    return _FIRST if index == 0 else _R32 + index


def _expression(name: str, *parts: bytes) -> bytes:
    return nest(_LIST_ELEM, text(_EXPR_NAME, name), nest(_EXPR_DATA, *parts))


def _payload(register: int, base: int, offset: int, size: int) -> bytes:
    return _expression("payload", be32(1, register), be32(2, base), be32(3, offset), be32(4, size))


def _meta(register: int, key: Meta) -> bytes:
    return _expression("meta", be32(1, register), be32(2, int(key)))


def _compare(register: int, operation: Cmp, value: bytes) -> bytes:
    return _expression("cmp", be32(1, register), be32(2, int(operation)), nest(3, attr(_DATA_VALUE, value)))


def _bitwise(source: int, target: int, mask: bytes, xor: bytes) -> bytes:
    return _expression(
        "bitwise",
        be32(1, source),
        be32(2, target),
        be32(3, len(mask)),
        nest(4, attr(_DATA_VALUE, mask)),
        nest(5, attr(_DATA_VALUE, xor)),
    )


def verdict_data(code: int, chain: str = "") -> bytes:
    """The payload of a data attribute that holds a verdict."""
    return nest(_DATA_VERDICT, be32(_VERDICT_CODE, code), *([text(_VERDICT_CHAIN, chain)] if chain else []))


def verdict_text(code: int, chain: str = "") -> str:
    names = {DROP: "drop", ACCEPT: "accept", RETURN: "return", JUMP: f"jump {chain}", GOTO: f"goto {chain}"}
    return names[code]


# --- verdicts ---------------------------------------------------------------------------------------------------


def verdict(code: int, chain: str = "") -> Statement:
    return Statement(
        verdict_text(code, chain), _expression("immediate", be32(1, 0), nest(2, verdict_data(code, chain)))
    )


def jump(chain: str) -> Statement:
    return verdict(JUMP, chain)


def goto(chain: str) -> Statement:
    return verdict(GOTO, chain)


def drop() -> Statement:
    return verdict(DROP)


def reject() -> Statement:
    """ICMP port unreachable (right for UDP; TCP wants :func:`reject_tcp`)."""
    return Statement("reject", _expression("reject", be32(1, 0), attr(2, b"\x03")))


def reject_tcp() -> Statement:
    return Statement(
        "meta l4proto tcp reject with tcp reset",
        _meta(_FIRST, Meta.NFT_META_L4PROTO)
        + _compare(_FIRST, Cmp.NFT_CMP_EQ, b"\x06")
        + _expression("reject", be32(1, 1)),
    )


# --- matches ----------------------------------------------------------------------------------------------------


def _in_network(field: str, offset: int, network: str, negate: bool) -> Statement:
    net = ipaddress.IPv4Network(network)
    operation = Cmp.NFT_CMP_NEQ if negate else Cmp.NFT_CMP_EQ
    code = _payload(_FIRST, 1, offset, 4)
    if net.prefixlen < 32:
        if net.prefixlen % 8 == 0 and net.prefixlen:
            # a whole number of bytes: load only those, as nft does, so that it prints the prefix back
            code = _payload(_FIRST, 1, offset, net.prefixlen // 8)
            code += _compare(_FIRST, operation, net.network_address.packed[: net.prefixlen // 8])
        else:
            code += _bitwise(_FIRST, _FIRST, net.netmask.packed, bytes(4))
            code += _compare(_FIRST, operation, net.network_address.packed)
    else:
        code += _compare(_FIRST, operation, net.network_address.packed)
    shown = str(net) if net.prefixlen < 32 else str(net.network_address)
    return Statement(f"ip {field} {'!= ' if negate else ''}{shown}", code)


def source_in(network: str, *, negate: bool = False) -> Statement:
    """``ip saddr 10.244.0.0/16``."""
    return _in_network("saddr", 12, network, negate)


def destination_in(network: str, *, negate: bool = False) -> Statement:
    return _in_network("daddr", 16, network, negate)


def _fib(field: str, flag: int) -> Statement:
    # result 3: address type; RTN_LOCAL is 2
    return Statement(
        f"fib {field} type local",
        _expression("fib", be32(1, _FIRST), be32(2, 3), be32(3, flag))
        + _compare(_FIRST, Cmp.NFT_CMP_EQ, struct.pack("=I", 2)),
    )


def destination_is_local() -> Statement:
    """The packet is for an address of this node."""
    return _fib("daddr", 1 << 1)


def source_is_local() -> Statement:
    return _fib("saddr", 1 << 0)


def mark_has(bit: int) -> Statement:
    """``meta mark & 0x4000 == 0x4000``."""
    value = struct.pack("=I", bit)
    return Statement(
        f"meta mark & 0x{bit:08x} == 0x{bit:08x}",
        _meta(_FIRST, Meta.NFT_META_MARK)
        + _bitwise(_FIRST, _FIRST, value, bytes(4))
        + _compare(_FIRST, Cmp.NFT_CMP_EQ, value),
    )


def destination_was_changed() -> Statement:
    """``ct status dnat``: the connection goes to where a map sent it, not to where its first packet was addressed."""
    # key 2 is the status; IPS_DST_NAT is 0x20, in the machine's own byte order
    return Statement(
        "ct status dnat",
        _expression("ct", be32(1, _FIRST), be32(2, 2))
        + _bitwise(_FIRST, _FIRST, struct.pack("=I", 0x20), bytes(4))
        + _compare(_FIRST, Cmp.NFT_CMP_NEQ, bytes(4)),
    )


def out_interface(name: str, *, negate: bool = False) -> Statement:
    return Statement(
        f'oifname {"!= " if negate else ""}"{name}"',
        _meta(_FIRST, Meta.NFT_META_OIFNAME)
        + _compare(_FIRST, Cmp.NFT_CMP_NEQ if negate else Cmp.NFT_CMP_EQ, name.encode().ljust(16, b"\0")),
    )


# --- effects ----------------------------------------------------------------------------------------------------


def set_mark(bit: int) -> Statement:
    """``meta mark set meta mark | bit``: or-ing is mask and xor, as the kernel's bitwise does it."""
    keep = struct.pack("=I", ~bit & 0xFFFFFFFF)
    code = _meta(_FIRST, Meta.NFT_META_MARK) + _bitwise(_FIRST, _FIRST, keep, struct.pack("=I", bit))
    return Statement(f"meta mark set meta mark | 0x{bit:08x}", code + _set_mark(_FIRST))


def clear_mark(bit: int) -> Statement:
    keep = struct.pack("=I", ~bit & 0xFFFFFFFF)
    code = _meta(_FIRST, Meta.NFT_META_MARK) + _bitwise(_FIRST, _FIRST, keep, bytes(4))
    return Statement(f"meta mark set meta mark & 0x{~bit & 0xFFFFFFFF:08x}", code + _set_mark(_FIRST))


def _set_mark(register: int) -> bytes:
    return _expression("meta", be32(2, int(Meta.NFT_META_MARK)), be32(3, register))


def masquerade(*, fully_random: bool = False) -> Statement:
    if fully_random:
        return Statement("masquerade fully-random", _expression("masq", be32(1, 1 << 4)))
    return Statement("masquerade", _expression("masq"))


def dnat_to(address: str, port: int) -> Statement:
    """``dnat ip to 10.244.1.2:8080``."""
    load = _expression(
        "immediate", be32(1, _FIRST), nest(2, attr(_DATA_VALUE, ipaddress.IPv4Address(address).packed))
    )
    load += _expression(
        "immediate", be32(1, _register(1)), nest(2, attr(_DATA_VALUE, struct.pack(">H", port)))
    )
    return Statement(f"dnat to {address}:{port}", load + _dnat(_FIRST, _register(1)))


def _dnat(address: int, port: int) -> bytes:
    # type 1: destination NAT; family 2: IPv4; registers of the address and of the port; flags: the port is given
    return _expression("nat", be32(1, 1), be32(2, 2), be32(3, address), be32(5, port), be32(7, 0x2))


# --- keys, sets and maps ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """A field of a concatenated key: how ``nft`` writes it, and how it is loaded into a register."""

    text: str
    name: str
    value: int = 0

    def load(self, register: int) -> bytes:
        if self.name == "saddr":
            return _payload(register, 1, 12, 4)
        if self.name == "daddr":
            return _payload(register, 1, 16, 4)
        if self.name == "dport":
            return _payload(register, 2, 2, 2)
        if self.name == "protocol":
            return _meta(register, Meta.NFT_META_L4PROTO)
        # a random number in [0, value)
        return _expression("numgen", be32(1, register), be32(2, self.value), be32(3, 1), be32(4, 0))


SOURCE = Key("ip saddr", "saddr")
DESTINATION = Key("ip daddr", "daddr")
PORT = Key("th dport", "dport")
PROTOCOL = Key("meta l4proto", "protocol")


def random_below(limit: int) -> Key:
    return Key(f"numgen random mod {limit}", "random", limit)


def _load(keys: tuple[Key, ...]) -> bytes:
    return b"".join(key.load(_register(index)) for index, key in enumerate(keys))


def _text(keys: tuple[Key, ...]) -> str:
    return " . ".join(key.text for key in keys)


def in_set(keys: tuple[Key, ...], name: str) -> Statement:
    """``ip saddr . ip daddr @hairpin``."""
    return Statement(
        f"{_text(keys)} @{name}", _load(keys) + _expression("lookup", text(1, name), be32(2, _FIRST))
    )


def verdict_map(keys: tuple[Key, ...], name: str) -> Statement:
    """``... vmap @services``: the map says where to go on; nothing happens where it holds no such key."""
    code = _load(keys) + _expression("lookup", text(1, name), be32(2, _FIRST), be32(3, 0))
    return Statement(f"{_text(keys)} vmap @{name}", code)


def dnat_by_map(keys: tuple[Key, ...], name: str) -> Statement:
    """``dnat ip to ... map @endpoints``: the map yields an address and a port."""
    code = _load(keys) + _expression("lookup", text(1, name), be32(2, _FIRST), be32(3, _FIRST))
    return Statement(f"dnat ip to {_text(keys)} map @{name}", code + _dnat(_FIRST, _register(1)))


def one_in(count: int) -> Statement:
    """True once in ``count`` times."""
    key = random_below(count)
    return Statement(f"{key.text} 0", key.load(_FIRST) + _compare(_FIRST, Cmp.NFT_CMP_EQ, bytes(4)))


def remember_source(name: str) -> Statement:
    """``update @set { ip saddr }``: add the client, or start its time anew."""
    code = SOURCE.load(_FIRST) + _expression("dynset", text(1, name), be32(3, 1), be32(4, _FIRST))
    return Statement(f"update @{name} {{ ip saddr }}", code)
