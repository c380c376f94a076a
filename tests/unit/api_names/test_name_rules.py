"""Names: the shapes Kubernetes accepts and the messages it answers with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.api import names

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
QUALIFIED = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ("a", []),
        ("1-a", []),
        ("a" * 63, []),
        ("a" * 64, ["must be no more than 63 bytes"]),
        ("a.b", ["must not contain dots"]),
        ("", [LABEL]),
        ("A", [LABEL]),
        ("a\n", [LABEL]),
        ("-a", [LABEL]),
        ("é" * 40, ["must be no more than 63 bytes", LABEL]),
    ],
)
def test_dns_label(value: str, messages: list[str]) -> None:
    assert names.is_dns1123_label(value) == messages


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ("app", []),
        ("example.com/app", []),
        ("/app", ["prefix part must be non-empty"]),
        ("app/", ["name part must be non-empty", f"name part {QUALIFIED}"]),
        (
            "a/b/c",
            [
                f"a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ],
        ),
        ("a" * 64, ["name part must be no more than 63 bytes"]),
        ("a b", [f"name part {QUALIFIED}"]),
    ],
)
def test_qualified_name(value: str, messages: list[str]) -> None:
    assert names.is_qualified_name(value) == messages


def test_other_shapes() -> None:
    assert names.is_dns1123_subdomain("a.b-c.1") == []
    assert names.is_dns1123_subdomain("a" * 254)[0] == "must be no more than 253 bytes"
    assert "e.g. 'example.com', regex used" in names.is_dns1123_subdomain("a..b")[0]
    assert names.is_dns1035_label("a1") == [] and "DNS-1035" in names.is_dns1035_label("1a")[0]
    assert names.is_label_value("") == [] and names.is_label_value("a_b.c") == []
    assert names.is_label_value("a/b")[0].startswith("a valid label must be an empty string or consist of")
    assert names.is_config_map_key("..data")[-1] == "must not start with '..'"
    assert names.is_config_map_key("..") == ["must not be '..'"]
    assert names.is_env_var_name("1A")[0].startswith(
        "a valid environment variable name must consist of alphabetic"
    )
    assert names.is_relaxed_env_var_name("a b!") == []
    assert names.is_relaxed_env_var_name("") == ["environment variable name must be non-empty"]
    assert "other than '='" in names.is_relaxed_env_var_name("a=b")[0]
    assert names.is_port_name("http") == []
    assert names.is_port_name("80") == ["must contain at least one letter (a-z)"]
    assert names.is_port_name("a--b") == ["must not contain consecutive hyphens"]
    assert names.is_port_name("a-") == ["must not begin or end with a hyphen"]
    assert names.is_port_name("") == [
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        "must contain at least one letter (a-z)",
    ]
    assert names.is_path_segment("system:node") == []
    assert names.is_path_segment("a/b%") == ["may not contain '/'", "may not contain '%'"]
    assert names.is_path_segment("..") == ["may not be '..'"]
    assert names.is_port_number(0) == ["must be between 1 and 65535, inclusive"]
    assert names.is_percent("25%") == [] and names.is_percent("x%")
    assert names.mask_trailing_dash("web-") == "wea" and names.mask_trailing_dash("-") == "-"


RULES = [
    names.is_dns1123_label,
    names.is_dns1123_subdomain,
    names.is_dns1035_label,
    names.is_qualified_name,
    names.is_label_value,
    names.is_config_map_key,
    names.is_env_var_name,
    names.is_relaxed_env_var_name,
    names.is_port_name,
    names.is_path_segment,
    names.is_wildcard_dns1123_subdomain,
    names.is_c_identifier,
]


@given(st.text())
def test_any_text_gets_messages_never_an_exception(value: str) -> None:
    for rule in RULES:
        assert all(isinstance(message, str) and message for message in rule(value))


@given(st.from_regex(r"[a-z]([-a-z0-9]{0,60}[a-z0-9])?", fullmatch=True))
def test_a_service_name_is_every_wider_shape(value: str) -> None:
    assert not names.is_dns1035_label(value)
    assert not names.is_dns1123_label(value)
    assert not names.is_dns1123_subdomain(value)
    assert not names.is_qualified_name(value)
    assert not names.is_label_value(value)
