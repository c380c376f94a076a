"""Named formats in expressions: ``!format.dns1123Label().validate(self.name).hasValue()``."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bamikube.api import names
from bamikube.api.cel import moments
from bamikube.api.cel.functions import urls
from bamikube.api.cel.functions.model import Function, a_string, declare, succeeds, walk
from bamikube.api.cel.types import ABSENT, NoOverload, Optional


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    check: Callable[[str], list[str]]
    type_name = "kubernetes.NamedFormat"


def _by_pattern(pattern: str, message: str) -> Callable[[str], list[str]]:
    compiled = re.compile(pattern)
    return lambda text: [] if compiled.fullmatch(text) else [message]


def _byte(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ["invalid base64"]
    return []


def _by_parsing(parse: Callable[[str], Any], message: str) -> Callable[[str], list[str]]:
    passes = succeeds(parse)
    return lambda text: [] if passes(text) else [message]


def _prefix(check: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    return lambda text: check(text[:-1] + "a" if text.endswith("-") else text)


FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format("dns1123Label", names.is_dns1123_label),
        Format("dns1123Subdomain", names.is_dns1123_subdomain),
        Format("dns1035Label", names.is_dns1035_label),
        Format("qualifiedName", names.is_qualified_name),
        Format("dns1123LabelPrefix", _prefix(names.is_dns1123_label)),
        Format("dns1123SubdomainPrefix", _prefix(names.is_dns1123_subdomain)),
        Format("dns1035LabelPrefix", _prefix(names.is_dns1035_label)),
        Format("labelValue", names.is_label_value),
        Format("uri", _by_parsing(urls.parse, "invalid URI")),
        Format(
            "uuid",
            _by_pattern(
                r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}",
                "does not match the UUID format",
            ),
        ),
        Format("byte", _byte),
        Format("date", _by_pattern(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", "invalid date")),
        Format("datetime", _by_parsing(moments.parse_timestamp, "invalid datetime")),
    )
}


def _named(name: Any) -> Optional:
    found = FORMATS.get(a_string(name))
    return ABSENT if found is None else Optional(True, found)


def _validate(form: Any, text: Any) -> Optional:
    if type(form) is not Format:
        raise NoOverload()
    wrong = form.check(a_string(text))
    return Optional(True, wrong) if wrong else ABSENT


FUNCTIONS: dict[str, Function] = {
    "format.named": Function(_named),
    **{f"format.{name}": Function(lambda form=form: form) for name, form in FORMATS.items()},
    "validate": Function(_validate, walk(argument=1)),
}

DECLARED = declare(
    [
        "format.named(string) -> optional<NamedFormat>",
        *(f"format.{name}() -> NamedFormat" for name in FORMATS),
        "NamedFormat.validate(string) -> optional<list<string>>",
    ]
)
