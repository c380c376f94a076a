"""The cluster's zone: all services' records, and prepared answers.

A question is answered in one of two ways. The first time, the answer is put together from packed records and kept as
bytes under the query's own bytes (all but the two of its identifier). Every further time it is one dictionary lookup and
one concatenation. Any change of the zone forgets all kept answers; putting one together again takes some 20 us.

Where a name has several addresses, the kept answer is a list of rotations, handed out in turn, so that clients that take
the first address spread.

A name that exists without records of the asked type, or has names below it, is NODATA; any other is NXDOMAIN. Both carry
the SOA, whose last field tells resolvers how long to believe it (RFC 2308). Reverse names we do not know, and names
outside the zone, are not ours: they go upstream.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from enum import Enum

from bamikube.dns.model import Service, Slice
from bamikube.dns.records import Records, records
from bamikube.dns.wire import (
    AAAA,
    ANY,
    CNAME,
    IN,
    NOERROR,
    NOTIMP,
    NS,
    NXDOMAIN,
    POINTER_TO_QUESTION,
    REFUSED,
    SOA,
    SRV,
    TXT,
    A,
    Question,
    address,
    name,
    parents,
    record,
    respond,
    soa,
)

VERSION = b"1.1.0"
MAX_KEPT = 20_000
MAX_ROTATIONS = 16
BAD_VERSION = 16


class Elsewhere(Enum):
    """Who answers instead."""

    UPSTREAM = "not our name"
    FOLLOW = "an alias whose target must be looked up"


class Zone:
    """``pods``: ``insecure`` answers every dashed address in an existing namespace, ``verified`` asks for the pod."""

    def __init__(
        self, domain: str = "cluster.local", *, ttl: int = 5, pods: str = "insecure", server_address: str = ""
    ) -> None:
        self.domain = domain
        self.apex = name(domain)
        self._pods_below = name(f"pod.{domain}")
        self._ttl = ttl
        self._mode = pods
        self._services: dict[str, Service] = {}
        self._slices: dict[str, dict[str, Slice]] = {}
        self._records: dict[str, Records] = {}
        self._names: dict[bytes, dict[str, dict[int, list[bytes]]]] = {}
        self._above: dict[bytes, int] = {}
        self._namespaces: set[str] = set()
        self._pod_addresses: dict[tuple[str, str], int] = {}
        self._serial = 1
        self._kept: dict[bytes, list[bytes]] = {}
        self._turn = 0
        self._static(server_address)

    def _static(self, address_text: str) -> None:
        server = name(f"ns.dns.{self.domain}")
        made: Records = {
            self.apex: {NS: [server]},
            server: {},
            name(f"dns-version.{self.domain}"): {TXT: [bytes([len(VERSION)]) + VERSION]},
            name(f"svc.{self.domain}"): {},
            self._pods_below: {},
        }
        if address_text:
            made[server] = {AAAA if ":" in address_text else A: [address(address_text)]}
        self._replace("", made)

    # --- changes --------------------------------------------------------------------------------------------------

    def service(self, key: str, new: Service | None) -> None:
        """A service appeared, changed or (None) went."""
        if new == self._services.get(key):
            return
        if new is None:
            del self._services[key]
        else:
            self._services[key] = new
        self._plan(key)

    def slice(self, key: str, old: Slice | None, new: Slice | None) -> None:
        if old == new:
            return
        for part, present in ((old, False), (new, True)):
            if part is None:
                continue
            held = self._slices.setdefault(part.service, {})
            if present:
                held[key] = part
            else:
                held.pop(key, None)
            if not held:
                del self._slices[part.service]
        for service_key in {part.service for part in (old, new) if part is not None}:
            service = self._services.get(service_key)
            if service is not None and not service.addresses and not service.external:
                self._plan(service_key)

    def namespace(self, text: str, present: bool) -> None:
        (self._namespaces.add if present else self._namespaces.discard)(text)
        self._forget()

    def pod(self, old: tuple[str, str] | None, new: tuple[str, str] | None) -> None:
        """(namespace, address) of a pod; counted, because an address may move to the next pod before the old is gone."""
        if old == new:
            return
        for item, step in ((old, -1), (new, 1)):
            if item is not None:
                count = self._pod_addresses.get(item, 0) + step
                if count > 0:
                    self._pod_addresses[item] = count
                else:
                    self._pod_addresses.pop(item, None)
        self._forget()

    def _plan(self, key: str) -> None:
        service = self._services.get(key)
        made = records(service, self._slices.get(key, {}).values(), self.domain) if service else {}
        if made != self._records.get(key, {}):
            self._replace(key, made)

    def _replace(self, key: str, made: Records) -> None:
        for owner in self._records.pop(key, {}):
            held = self._names[owner]
            del held[key]
            if not held:
                del self._names[owner]
            self._count(owner, -1)
        for owner, sets in made.items():
            self._names.setdefault(owner, {})[key] = sets
            self._count(owner, 1)
        if made:
            self._records[key] = made
        self._serial += 1
        self._forget()

    def _count(self, owner: bytes, step: int) -> None:
        if not owner.endswith(self.apex):
            return
        for above in parents(owner, self.apex):
            count = self._above.get(above, 0) + step
            if count:
                self._above[above] = count
            else:
                self._above.pop(above, None)

    def _forget(self) -> None:
        self._kept.clear()

    # --- answers --------------------------------------------------------------------------------------------------

    def kept(self, query: bytes) -> bytes | None:
        """The prepared answer to exactly this query, if there is one."""
        variants = self._kept.get(query[2:])
        if variants is None:
            return None
        if len(variants) == 1:
            return query[:2] + variants[0]
        self._turn += 1
        return query[:2] + variants[self._turn % len(variants)]

    def answer(self, question: Question, query: bytes = b"", limit: int = 65535) -> bytes | Elsewhere:
        """The answer, or who has it. With ``query`` (the bytes that came over UDP) the answer is kept."""
        if question.opcode:
            return respond(question, NOTIMP, authoritative=False)
        if question.edns and question.version:
            return respond(question, BAD_VERSION, authoritative=False)
        if question.klass not in (IN, ANY):
            return respond(question, REFUSED, authoritative=False)
        owner = question.owner
        inside = self._is_inside(owner)
        sets = self._sets(owner)
        if sets is None and inside and self._mode != "disabled" and owner.endswith(self._pods_below):
            sets = self._pod(owner)
        if sets is None:
            if not inside:
                return Elsewhere.UPSTREAM
            rcode = NOERROR if owner in self._above else NXDOMAIN
            return self._keep(query, [self._negative(question, rcode, limit)])
        if CNAME in sets and question.kind != CNAME:
            return Elsewhere.FOLLOW
        kinds = list(sets) if question.kind == ANY else [question.kind] if question.kind in sets else []
        if owner == self.apex and question.kind == SOA:
            body = record(POINTER_TO_QUESTION, SOA, self._ttl, self._soa())
            return self._keep(query, [respond(question, NOERROR, answers=body, count=1, limit=limit)])
        if not any(sets[kind] for kind in kinds):
            return self._keep(query, [self._negative(question, NOERROR, limit)])
        packed = [record(POINTER_TO_QUESTION, kind, self._ttl, data) for kind in kinds for data in sets[kind]]
        extra = self._addresses_of(sets[SRV]) if question.kind == SRV else []
        variants = [
            respond(
                question,
                NOERROR,
                answers=b"".join(packed[turn:] + packed[:turn]),
                count=len(packed),
                extra=b"".join(extra),
                extras=len(extra),
                limit=limit,
            )
            for turn in range(min(len(packed), MAX_ROTATIONS))
        ]
        return self._keep(query, variants)

    def alias(self, owner: bytes) -> bytes:
        """The target of an alias (a CNAME)."""
        sets = self._sets(owner) or {}
        return sets[CNAME][0]

    @property
    def ttl(self) -> int:
        return self._ttl

    def _is_inside(self, owner: bytes) -> bool:
        return owner.endswith(self.apex) and self._on_boundary(owner)

    def _on_boundary(self, owner: bytes) -> bool:
        """Whether the zone's name begins at a label of ``owner`` (and not in the middle of one)."""
        offset, end = 0, len(owner) - len(self.apex)
        while offset < end:
            offset += owner[offset] + 1
        return offset == end

    def _sets(self, owner: bytes) -> dict[int, list[bytes]] | None:
        held = self._names.get(owner)
        if held is None:
            return None
        if len(held) == 1:
            return next(iter(held.values()))
        merged: dict[int, list[bytes]] = {}
        for key in sorted(held):
            for kind, data in held[key].items():
                merged.setdefault(kind, []).extend(item for item in data if item not in merged.get(kind, ()))
        return merged

    def _pod(self, owner: bytes) -> dict[int, list[bytes]] | None:
        """``10-244-1-7.shop.pod.cluster.local``."""
        labels = owner[: -len(self._pods_below)]
        parts: list[str] = []
        offset = 0
        while offset < len(labels):
            parts.append(labels[offset + 1 : offset + 1 + labels[offset]].decode("latin-1"))
            offset += labels[offset] + 1
        if not parts or parts[-1] not in self._namespaces:
            return None
        if len(parts) == 1:
            return {}
        if len(parts) != 2:
            return None
        for separator in (".", ":"):
            try:
                text = str(ipaddress.ip_address(parts[0].replace("-", separator)))
            except ValueError:
                continue
            if self._mode == "verified" and (parts[1], text) not in self._pod_addresses:
                return None
            return {AAAA if ":" in text else A: [address(text)]}
        return None

    def _addresses_of(self, targets: Iterable[bytes]) -> list[bytes]:
        """Address records of SRV targets, so that the client need not ask again."""
        extra: list[bytes] = []
        for target in dict.fromkeys(data[6:] for data in targets):
            sets = self._sets(target) or {}
            extra += [
                record(target, kind, self._ttl, data) for kind in (A, AAAA) for data in sets.get(kind, ())
            ]
        return extra

    def _soa(self) -> bytes:
        return soa(name(f"ns.dns.{self.domain}"), name(f"hostmaster.{self.domain}"), self._serial, self._ttl)

    def _negative(self, question: Question, rcode: int, limit: int) -> bytes:
        authority = record(self.apex, SOA, self._ttl, self._soa())
        return respond(question, rcode, authority=authority, authorities=1, limit=limit)

    def _keep(self, query: bytes, variants: list[bytes]) -> bytes:
        if query:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[query[2:]] = [variant[2:] for variant in variants]
        return variants[0]
