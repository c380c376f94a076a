"""What a name may look like.

Kubernetes has a handful of shapes for names: labels and subdomains of DNS, keys of labels and of config maps, names
of ports and variables. Each function here takes a value and answers a list of messages, empty when the value is
fine. The messages are the ones people already know from Kubernetes (``k8s.io/apimachinery``, packages
``util/validation`` and ``api/validate/content``), because tools and tests match on them; each begins in lower case so
that it reads well behind a field path and the offending value.

>>> is_dns1123_label("web.1")
['must not contain dots']

Lengths are counted in bytes of UTF-8, as Kubernetes counts them.
"""

from __future__ import annotations

import re

DNS1123_LABEL_MAX = 63
DNS1123_SUBDOMAIN_MAX = 253
DNS1035_LABEL_MAX = 63
QUALIFIED_NAME_MAX = 63
LABEL_VALUE_MAX = 63
PORT_NAME_MAX = 15

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = _LABEL + "(\\." + _LABEL + ")*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = "(" + _QUALIFIED + ")?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_ENV_NAME = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_WILDCARD = "\\*\\." + _SUBDOMAIN
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_PERCENT = "[0-9]+%"
_HTTP_HEADER = "[-A-Za-z0-9]+"

_LABEL_RE = re.compile(_LABEL)
_SUBDOMAIN_RE = re.compile(_SUBDOMAIN)
_LABEL_1035_RE = re.compile(_LABEL_1035)
_QUALIFIED_RE = re.compile(_QUALIFIED)
_LABEL_VALUE_RE = re.compile(_LABEL_VALUE)
_CONFIG_KEY_RE = re.compile(_CONFIG_KEY)
_ENV_NAME_RE = re.compile(_ENV_NAME)
_WILDCARD_RE = re.compile(_WILDCARD)
_C_IDENTIFIER_RE = re.compile(_C_IDENTIFIER)
_PERCENT_RE = re.compile(_PERCENT)
_HTTP_HEADER_RE = re.compile(_HTTP_HEADER)
_PORT_CHARS_RE = re.compile("[-a-z0-9]+")
_PORT_LETTER_RE = re.compile("[a-z]")
_PRINTABLE_RE = re.compile("[ -<>-~]*")  # printable ASCII but "="


def too_long(limit: int) -> str:
    """The message of a value longer than ``limit`` bytes."""
    return f"must be no more than {limit} bytes"


def out_of_range(low: int, high: int) -> str:
    """The message of a number outside ``low..high``."""
    return f"must be between {low} and {high}, inclusive"


EMPTY = "must be non-empty"


def _pattern(message: str, regex: str, *examples: str) -> str:
    # The two blanks before "or" are Kubernetes' own; clients compare whole messages.
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{regex}')"


def _longer(value: str, limit: int) -> bool:
    # Cheap first: UTF-8 takes at most four bytes a character.
    return len(value) > limit or (
        len(value) * 4 > limit and len(value.encode("utf-8", "surrogatepass")) > limit
    )


def is_dns1123_label(value: str) -> list[str]:
    """A label of DNS after RFC 1123: ``my-name``, ``123-abc``; at most 63 bytes. Names of namespaces, containers."""
    messages = [too_long(DNS1123_LABEL_MAX)] if _longer(value, DNS1123_LABEL_MAX) else []
    if not _LABEL_RE.fullmatch(value):
        if _SUBDOMAIN_RE.fullmatch(value):
            messages.append("must not contain dots")
        else:
            messages.append(
                _pattern(
                    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
                    "and must start and end with an alphanumeric character",
                    _LABEL,
                    "my-name",
                    "123-abc",
                )
            )
    return messages


def is_dns1123_subdomain(value: str) -> list[str]:
    """A DNS name after RFC 1123: ``example.com``; at most 253 bytes. Most object names."""
    messages = [too_long(DNS1123_SUBDOMAIN_MAX)] if _longer(value, DNS1123_SUBDOMAIN_MAX) else []
    if not _SUBDOMAIN_RE.fullmatch(value):
        messages.append(
            _pattern(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
                "and must start and end with an alphanumeric character",
                _SUBDOMAIN,
                "example.com",
            )
        )
    return messages


def is_dns1035_label(value: str) -> list[str]:
    """A label of DNS after RFC 1035: as RFC 1123, but starting with a letter. Names of services."""
    messages = [too_long(DNS1035_LABEL_MAX)] if _longer(value, DNS1035_LABEL_MAX) else []
    if not _LABEL_1035_RE.fullmatch(value):
        messages.append(
            _pattern(
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
                "start with an alphabetic character, and end with an alphanumeric character",
                _LABEL_1035,
                "my-name",
                "abc-123",
            )
        )
    return messages


def is_wildcard_dns1123_subdomain(value: str) -> list[str]:
    """``*.example.com``: the hosts of an ingress rule."""
    messages = [too_long(DNS1123_SUBDOMAIN_MAX)] if _longer(value, DNS1123_SUBDOMAIN_MAX) else []
    if not _WILDCARD_RE.fullmatch(value):
        messages.append(
            _pattern(
                "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, "
                "which must consist of lower case alphanumeric characters, '-' or '.' "
                "and end with an alphanumeric character",
                _WILDCARD,
                "*.example.com",
            )
        )
    return messages


def is_qualified_name(value: str) -> list[str]:
    """A key of labels, annotations, taints, resources: ``MyName`` or ``example.com/MyName``."""
    prefix, slash, name = value.partition("/")
    if not slash:
        name = value
    # Most are good, and what is good is ASCII: then the messages need not be put together.
    if (
        _QUALIFIED_RE.fullmatch(name)
        and len(name) <= QUALIFIED_NAME_MAX
        and (not slash or (prefix and not is_dns1123_subdomain(prefix)))
    ):
        return []
    wrong_name = _pattern(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        _QUALIFIED,
        "MyName",
        "my.name",
        "123-abc",
    )
    messages: list[str] = []
    if not slash:
        pass
    elif "/" in name:
        return [
            f"a qualified name {wrong_name} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    elif not prefix:
        messages.append(f"prefix part {EMPTY}")
    else:
        messages += [f"prefix part {message}" for message in is_dns1123_subdomain(prefix)]
    if not name:
        messages.append(f"name part {EMPTY}")
    elif _longer(name, QUALIFIED_NAME_MAX):
        messages.append(f"name part {too_long(QUALIFIED_NAME_MAX)}")
    if not _QUALIFIED_RE.fullmatch(name):
        messages.append(f"name part {wrong_name}")
    return messages


def is_label_value(value: str) -> list[str]:
    """The value of a label: empty, or at most 63 bytes of letters, digits, ``-``, ``_`` and ``.``."""
    messages = [too_long(LABEL_VALUE_MAX)] if _longer(value, LABEL_VALUE_MAX) else []
    if not _LABEL_VALUE_RE.fullmatch(value):
        messages.append(
            _pattern(
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
                "and must start and end with an alphanumeric character",
                _LABEL_VALUE,
                "MyValue",
                "my_value",
                "12345",
            )
        )
    return messages


def _walks_out(value: str) -> list[str]:
    """Values that become file names must not climb out of their folder."""
    if value == ".":
        return ["must not be '.'"]
    if value == "..":
        return ["must not be '..'"]
    if value.startswith(".."):
        return ["must not start with '..'"]
    return []


def is_config_map_key(value: str) -> list[str]:
    """A key of a config map or secret: becomes a file name when mounted."""
    messages = [too_long(DNS1123_SUBDOMAIN_MAX)] if _longer(value, DNS1123_SUBDOMAIN_MAX) else []
    if not _CONFIG_KEY_RE.fullmatch(value):
        messages.append(
            _pattern(
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                _CONFIG_KEY,
                "key.name",
                "KEY_NAME",
                "key-name",
            )
        )
    return messages + _walks_out(value)


def is_env_var_name(value: str) -> list[str]:
    """The name of an environment variable, the strict way (what ``envFrom`` skips with an event)."""
    messages: list[str] = []
    if not _ENV_NAME_RE.fullmatch(value):
        messages.append(
            _pattern(
                "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', "
                "and must not start with a digit",
                _ENV_NAME,
                "my.env-name",
                "MY_ENV.NAME",
                "MyEnvName1",
            )
        )
    return messages + _walks_out(value)


def is_relaxed_env_var_name(value: str) -> list[str]:
    """The name of an environment variable as pods may give it since v1.34 (KEP-4369)."""
    messages = [f"environment variable name {EMPTY}"] if not value else []
    if not _PRINTABLE_RE.fullmatch(value):
        messages.append(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
        )
    return messages


def is_port_name(value: str) -> list[str]:
    """The name of a port (IANA service name, RFC 6335): at most 15 of a-z, 0-9 and ``-``, with one letter."""
    messages = [too_long(PORT_NAME_MAX)] if _longer(value, PORT_NAME_MAX) else []
    if not _PORT_CHARS_RE.fullmatch(value):
        messages.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not _PORT_LETTER_RE.search(value):
        messages.append("must contain at least one letter (a-z)")
    if "--" in value:
        messages.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        messages.append("must not begin or end with a hyphen")
    return messages


def is_port_number(value: int) -> list[str]:
    """A TCP or UDP port: 1 to 65535."""
    return [] if 1 <= value <= 65535 else [out_of_range(1, 65535)]


def is_path_segment(value: str) -> list[str]:
    """A name that only has to fit into one segment of a URL path. Names of RBAC roles and bindings."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in value]


def is_path_segment_prefix(value: str) -> list[str]:
    """A ``generateName`` for names of :func:`is_path_segment`: ``.`` and ``..`` may still grow."""
    return [f"may not contain '{part}'" for part in ("/", "%") if part in value]


def is_c_identifier(value: str) -> list[str]:
    """An identifier of the C language."""
    if _C_IDENTIFIER_RE.fullmatch(value):
        return []
    return [
        _pattern(
            "a valid C identifier must start with alphabetic character or '_', "
            "followed by a string of alphanumeric characters or '_'",
            _C_IDENTIFIER,
            "my_name",
            "MY_NAME",
            "MyName",
        )
    ]


def is_percent(value: str) -> list[str]:
    """A percentage such as ``25%``: ``maxSurge`` and its kin."""
    if _PERCENT_RE.fullmatch(value):
        return []
    return [
        _pattern(
            "a valid percent string must be a numeric string followed by an ending '%'", _PERCENT, "1%", "93%"
        )
    ]


def is_http_header_name(value: str) -> list[str]:
    """The name of an HTTP header, as probes may set it."""
    if _HTTP_HEADER_RE.fullmatch(value):
        return []
    return [
        _pattern(
            "a valid HTTP header must consist of alphanumeric characters or '-'",
            _HTTP_HEADER,
            "X-Header-Name",
        )
    ]


def mask_trailing_dash(prefix: str) -> str:
    """A ``generateName`` as a name rule should see it: its last dash will be followed by random letters."""
    if len(prefix) > 1 and prefix.endswith("-"):
        return prefix[:-2] + "a"
    return prefix
