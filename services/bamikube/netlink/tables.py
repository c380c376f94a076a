"""The desired state of one nftables table, as a value: its text, its bytes, and the way from one to another.

:class:`Table` is what a planner returns. Elements of sets and maps are kept as the bytes the kernel compares, so that
planning ten thousand services packs each element once, and finding what changed is a comparison of dictionaries.

``difference(old, new)`` gives the messages that turn one into the other, in an order the kernel accepts inside one
transaction: new sets and chains first, then the rules of changed chains, then elements, then what is gone. The value of
a map element cannot be changed in place: it is removed and added again, which is invisible outside the transaction.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from bamikube.netlink.statements import DROP, GOTO, PROTOCOL_NAMES, Statement, verdict_data, verdict_text
from bamikube.netlink.wire import attr, be32, be64, nest, text

NEWTABLE, GETTABLE, DELTABLE = 0, 1, 2
NEWCHAIN, DELCHAIN = 3, 5
NEWRULE, DELRULE = 6, 8
NEWSET, DELSET = 9, 11
NEWSETELEM, DELSETELEM = 12, 14
DESTROYSETELEM = 30

SET_INTERVAL, SET_MAP, SET_TIMEOUT, SET_EVAL, SET_CONCAT = 0x4, 0x8, 0x10, 0x20, 0x80

OWNER, PERSIST = 0x2, 0x4

_CHUNK = 60_000  # a list of elements is one attribute, and an attribute ends at 64 KB


@dataclass(frozen=True, slots=True)
class Field:
    """A type of a key or value: its name and number in ``nft``, its size, and how its bytes are shown."""

    name: str
    number: int
    size: int

    def show(self, raw: bytes) -> str:
        if self.name == "ipv4_addr":
            return str(ipaddress.IPv4Address(raw[:4]))
        if self.name == "inet_proto":
            return PROTOCOL_NAMES.get(raw[0], str(raw[0]))
        if self.name == "inet_service":
            return str(struct.unpack(">H", raw[:2])[0])
        return f"0x{struct.unpack('=I', raw[:4])[0]:08x}"


ADDRESS = Field("ipv4_addr", 7, 4)
PROTO = Field("inet_proto", 12, 1)
SERVICE = Field("inet_service", 13, 2)
MARK = Field("mark", 19, 4)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The value of a verdict map's element."""

    code: int
    chain: str = ""

    def encode(self) -> bytes:
        return verdict_data(self.code, self.chain)


def goto_chain(chain: str) -> Verdict:
    return Verdict(GOTO, chain)


DROPPED = Verdict(DROP)


def _show(fields: tuple[Field, ...], raw: bytes) -> str:
    return " . ".join(kind.show(raw[index * 4 :]) for index, kind in enumerate(fields))


def _width(fields: tuple[Field, ...]) -> int:
    """Bytes of a (concatenated) key: every field of a concatenation fills whole registers."""
    return fields[0].size if len(fields) == 1 else 4 * len(fields)


def _number(fields: tuple[Field, ...]) -> int:
    number = 0
    for kind in fields:
        number = number << 6 | kind.number
    return number


@dataclass(slots=True)
class Set:
    """A named set or map. ``data`` empty and not ``verdicts``: a set, whose elements map to None.

    Invariant: keys have exactly the width of the key type, values that of the data type.
    """

    name: str
    key: tuple[Field, ...]
    data: tuple[Field, ...] = ()
    verdicts: bool = False
    timeout: int = 0  # seconds; the set is then filled by the packets themselves
    elements: Mapping[bytes, bytes | Verdict | None] = field(default_factory=dict)

    def declaration(self) -> tuple[object, ...]:
        """What cannot be changed without making the set anew."""
        return self.key, self.data, self.verdicts, self.timeout

    def encode(self, table: str, number: int) -> bytes:
        flags = SET_MAP if self.verdicts or self.data else 0
        if len(self.key) > 1:
            flags |= SET_CONCAT
        if self.timeout:
            flags |= SET_TIMEOUT | SET_EVAL
        parts = [
            text(1, table),
            text(2, self.name),
            be32(3, flags),
            be32(4, _number(self.key)),
            be32(5, _width(self.key)),
        ]
        if self.verdicts:
            parts += [be32(6, 0xFFFFFF00), be32(7, 0)]
        elif self.data:
            parts += [be32(6, _number(self.data)), be32(7, _width(self.data))]
        if len(self.key) > 1:
            lengths = b"".join(nest(1, be32(1, kind.size)) for kind in self.key)
            parts.append(nest(9, nest(2, lengths)))
        parts.append(be32(10, number))
        if self.timeout:
            parts.append(be64(11, self.timeout * 1000))
        # the byte order of key and data, which nft keeps in the user data: 1 host, 2 network (a mark is host order)
        order = b"\x00\x04" + struct.pack("=I", 1 if self.key == (MARK,) else 2)
        if self.data:
            order += b"\x01\x04" + struct.pack("=I", 2)
        parts.append(attr(13, order))
        return b"".join(parts)

    def lines(self) -> Iterator[str]:
        kind = "map" if self.verdicts or self.data else "set"
        yield f"\t{kind} {self.name} {{"
        shown = " . ".join(part.name for part in self.key)
        if self.verdicts:
            shown += " : verdict"
        elif self.data:
            shown += " : " + " . ".join(part.name for part in self.data)
        yield f"\t\ttype {shown}"
        if self.timeout:
            yield "\t\tflags dynamic,timeout"
            yield f"\t\ttimeout {self.timeout}s"
        items = sorted(self.elements.items())
        for index, (key, value) in enumerate(items):
            line = _show(self.key, key)
            if isinstance(value, Verdict):
                line += f" : {verdict_text(value.code, value.chain)}"
            elif value is not None:
                line += f" : {_show(self.data, value)}"
            start = "elements = { " if index == 0 else "             "
            yield f"\t\t{start}{line}{' }' if index == len(items) - 1 else ','}"
        yield "\t}"


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a base chain is attached. Priorities as ``linux/netfilter_ipv4.h`` numbers them."""

    kind: str  # nat, filter
    hook: str
    priority: int

    NUMBERS: ClassVar[dict[str, int]] = {
        "prerouting": 0,
        "input": 1,
        "forward": 2,
        "output": 3,
        "postrouting": 4,
    }

    def encode(self) -> bytes:
        return (
            nest(4, be32(1, self.NUMBERS[self.hook]), be32(2, self.priority))
            + be32(5, 1)
            + text(7, self.kind)
        )


@dataclass(frozen=True, slots=True)
class Chain:
    """Rules in order; with a hook, a base chain."""

    name: str
    rules: tuple[tuple[Statement, ...], ...] = ()
    hook: Hook | None = None

    def lines(self) -> Iterator[str]:
        yield f"\tchain {self.name} {{"
        if self.hook:
            yield f"\t\ttype {self.hook.kind} hook {self.hook.hook} priority {self.hook.priority}; policy accept;"
        for rule in self.rules:
            yield "\t\t" + " ".join(statement.text for statement in rule)
        yield "\t}"


@dataclass(slots=True)
class Table:
    """A whole table of family ``ip``."""

    name: str
    sets: dict[str, Set] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)

    def render(self) -> str:
        """The table as ``nft`` writes it, elements sorted: what golden files hold."""
        lines = [f"table ip {self.name} {{"]
        for name in sorted(self.sets):
            lines += self.sets[name].lines()
        for name in sorted(self.chains, key=lambda name: (self.chains[name].hook is None, name)):
            lines += self.chains[name].lines()
        return "\n".join([*lines, "}"]) + "\n"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a transaction. ``what`` is for the person who reads an error."""

    kind: int
    body: bytes
    what: str
    create: bool = False
    append: bool = False


def table_message(name: str, flags: int = 0) -> Message:
    return Message(NEWTABLE, text(1, name) + be32(2, flags), f"add table {name}", create=True)


def delete_table(name: str) -> Message:
    return Message(DELTABLE, text(1, name), f"delete table {name}")


def _rules(table: str, chain: Chain) -> Iterator[Message]:
    for rule in chain.rules:
        body = text(1, table) + text(2, chain.name) + nest(4, b"".join(statement.code for statement in rule))
        shown = " ".join(statement.text for statement in rule)
        yield Message(NEWRULE, body, f"add rule {chain.name} {shown}", create=True, append=True)


def _chain(table: str, chain: Chain) -> Message:
    body = text(1, table) + text(3, chain.name) + (chain.hook.encode() if chain.hook else b"")
    return Message(NEWCHAIN, body, f"add chain {chain.name}", create=True)


def elements(
    table: str, target: Set, keys: Mapping[bytes, bytes | Verdict | None], *, add: bool, kind: int
) -> Iterator[Message]:
    """Elements in chunks that fit an attribute, with heads packed once a set, not once an element."""
    width = _width(target.key)
    inner = attr(1, bytes(width))  # NFTA_DATA_VALUE with the key
    key_head = struct.pack("=HH", 4 + len(inner), 1 | 0x8000) + inner[:4]
    padding = inner[4 + width :]
    data_head = b""
    if target.data:
        size = _width(target.data)
        data_head = struct.pack("=HHHH", 8 + size, 2 | 0x8000, 4 + size, 1)
    verdicts: dict[Verdict, bytes] = {}
    head = text(1, table) + text(2, target.name)
    what = f"{'add' if add else 'delete'} element {target.name}"

    parts: list[bytes] = []
    total = 0
    for key, value in keys.items():
        body = key_head + key + padding
        if add and value is not None:
            if isinstance(value, Verdict):
                encoded = verdicts.get(value)
                if encoded is None:
                    encoded = verdicts[value] = nest(2, value.encode())
                body += encoded
            else:
                body += data_head + value
        element = struct.pack("=HH", 4 + len(body), 1 | 0x8000) + body
        parts.append(element)
        total += len(element)
        if total > _CHUNK:
            yield Message(kind, head + nest(3, *parts), what, create=add)
            parts, total = [], 0
    if parts:
        yield Message(kind, head + nest(3, *parts), what, create=add)


def replacement(table: Table, flags: int = 0) -> list[Message]:
    """Everything: the table is made if missing, removed, and made again as wanted, in one transaction.

    ``flags`` (owner, persist) stand on both creations: the first adopts what a dead predecessor left behind.
    """
    messages = [table_message(table.name, flags), delete_table(table.name), table_message(table.name, flags)]
    return messages + difference(Table(table.name), table)


def difference(old: Table, new: Table, *, flags: int = 0, delete_kind: int = DELSETELEM) -> list[Message]:
    """What turns ``old`` into ``new``. ``delete_kind`` may be DESTROYSETELEM, which forgives a missing element.

    A set whose type changed, or a chain whose hook changed, asks for a whole replacement (with the table's ``flags``).
    """
    name = new.name
    messages: list[Message] = []
    remade = {
        key
        for key, value in new.sets.items()
        if key in old.sets and value.declaration() != old.sets[key].declaration()
    }
    if remade or any(
        key in old.chains and old.chains[key].hook != chain.hook for key, chain in new.chains.items()
    ):
        return replacement(new, flags)

    for number, (key, target) in enumerate(new.sets.items(), 1):
        if key not in old.sets:
            messages.append(Message(NEWSET, target.encode(name, number), f"add set {key}", create=True))
    for key, chain in new.chains.items():
        if key not in old.chains:
            messages.append(_chain(name, chain))
    for key, chain in new.chains.items():
        before = old.chains.get(key)
        if before is chain or (before is not None and before.rules == chain.rules):
            continue
        if before is not None and before.rules:
            messages.append(Message(DELRULE, text(1, name) + text(2, key), f"flush chain {key}"))
        messages += _rules(name, chain)

    gone_chains = [key for key in old.chains if key not in new.chains]
    for key in gone_chains:
        if old.chains[key].rules:
            messages.append(Message(DELRULE, text(1, name) + text(2, key), f"flush chain {key}"))
    for key, target in new.sets.items():
        if target.timeout:
            continue  # filled by packets
        held = old.sets[key].elements if key in old.sets else {}
        if held is target.elements:
            continue
        removed = {
            item: value
            for item, value in held.items()
            if item not in target.elements or target.elements[item] != value
        }
        added = {
            item: value for item, value in target.elements.items() if item not in held or held[item] != value
        }
        messages += elements(name, target, removed, add=False, kind=delete_kind)
        messages += elements(name, target, added, add=True, kind=NEWSETELEM)
    gone_sets = [key for key in old.sets if key not in new.sets]
    # a verdict map that goes away must let go of its chains first
    messages += [Message(DELSET, text(1, name) + text(2, key), f"delete set {key}") for key in gone_sets]
    messages += [
        Message(DELCHAIN, text(1, name) + text(3, key), f"delete chain {key}") for key in gone_chains
    ]
    return messages
