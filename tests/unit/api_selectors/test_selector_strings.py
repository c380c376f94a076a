"""Label and field selectors: strings, objects, matching.

The accepted and refused strings and the messages were compared with a real kubectl (``create pdb --selector``).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.api import selectors
from bamikube.api.selectors import SelectorError, from_object, parse_fields, parse_labels


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("  ", ""),
        ("app", "app"),
        ("!app", "!app"),
        ("app=web", "app=web"),
        ("app == web", "app=web"),
        ("app!=web", "app!=web"),
        ("a=", "a="),
        ("a==", "a="),
        ("a!=", "a!="),
        ("z=1,a=2", "a=2,z=1"),
        ("a in (c, b,b)", "a in (b,c)"),
        ("a notin (b)", "a notin (b)"),
        ("a in ()", "a in ()"),
        ("a in (,)", "a in ()"),
        ("a in (b,,c)", "a in (,b,c)"),
        ("a in (b,)", "a in (,b)"),
        ("in", "in"),
        ("!in", "!in"),
        ("in in (in)", "in in (in)"),
        ("a=in", "a=in"),
        ("a>1,b<2", "a>1,b<2"),
        ("example.com/a=b", "example.com/a=b"),
    ],
)
def test_strings_and_their_canonical_form(text: str, shown: str) -> None:
    assert str(parse_labels(text)) == shown
    assert str(parse_labels(shown)) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,", "found '', expected: identifier after ','"),
        ("a,,b", "found ',', expected: identifier after ','"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("a==b=c", "found '=', expected: ',' or 'end of string'"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("a in (b))", "found ')', expected: ',' or 'end of string'"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a!b", "unable to parse requirement: found '!', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in", "unable to parse requirement: found '' expected: '('"),
        ("a=(", "unable to parse requirement: found '(', expected: identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, "
            "the value must be an integer",
        ),
        (
            "a=-",
            'unable to parse requirement: values[0][a]: Invalid value: "-": a valid label must be an empty string or '
            "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
            "(e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
            "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            "a b/c=1".replace(" ", "/"),
            'unable to parse requirement: <nil>: Invalid value: "a/b/c": a qualified name must consist of alphanumeric '
            "characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or "
            "'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an "
            "optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        ),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_labels(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "labels", "chosen"),
    [
        ("a=1", {"a": "1"}, True),
        ("a=1", {"a": "2"}, False),
        ("a!=1", {}, True),
        ("a notin (1,2)", {}, True),
        ("a notin (1,2)", {"a": "2"}, False),
        ("a in (1,2)", {"a": "2"}, True),
        ("a", {}, False),
        ("!a", {}, True),
        ("a=", {"a": ""}, True),
        ("a=", {}, False),
        ("a>1", {"a": "2"}, True),
        ("a>1", {"a": "x"}, False),
        ("a<1", {}, False),
        ("a=1,b!=2", {"a": "1", "b": "2"}, False),
        ("", {}, True),
    ],
)
def test_matching(text: str, labels: dict[str, str], chosen: bool) -> None:
    assert parse_labels(text).matches(labels) is chosen


def test_selector_objects() -> None:
    assert from_object({}).empty and from_object({}).matches({})
    assert not from_object(None).matches({}) and not from_object(None).empty
    selector = from_object(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["db"]}],
        }
    )
    assert str(selector) == "app in (web),tier notin (db)"
    assert selector.matches({"app": "web"}) and not selector.matches({"app": "web", "tier": "db"})
    with pytest.raises(SelectorError, match='"Gt" is not a valid label selector operator'):
        from_object({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]})
    with pytest.raises(SelectorError, match="values set can't be empty"):
        from_object({"matchExpressions": [{"key": "a", "operator": "In"}]})
    assert selectors.format_object({"matchLabels": {"b": "2", "a": "1"}}) == "a=1,b=2"
    assert selectors.format_object({}) == "<none>"
    assert selectors.format_object({"matchExpressions": [{"key": "", "operator": "In"}]}) == "<error>"
    assert not selectors.from_map(None).matches({"a": "b"})
    assert selectors.from_map({"a": "b"}).matches_object({"metadata": {"labels": {"a": "b"}}})


def test_node_selector_terms_compare_numbers_and_take_any_value() -> None:
    selector = selectors.from_node_requirements(
        [
            {"key": "cpu", "operator": "Gt", "values": ["8"]},
            {"key": "zone", "operator": "In", "values": ["not/a label"]},
        ]
    )
    assert selector.matches({"cpu": "16", "zone": "not/a label"})
    assert not selector.matches({"cpu": "8", "zone": "not/a label"})


def test_field_selectors() -> None:
    selector = parse_fields("metadata.name=web,status.phase!=Running,a==b\\,c")
    assert selector.matches({"metadata.name": "web", "a": "b,c"})
    assert not selector.matches({"metadata.name": "web", "a": "b,c", "status.phase": "Running"})
    assert selector.exact("metadata.name") == "web" and selector.exact("status.phase") is None
    assert str(selector) == "metadata.name=web,status.phase!=Running,a=b\\,c"
    assert parse_fields("").empty
    with pytest.raises(SelectorError, match="invalid selector: 'abc'; can't understand 'abc'"):
        parse_fields("abc")
    with pytest.raises(SelectorError, match="unescaped character in value: ="):
        parse_fields("a=b=c")
    with pytest.raises(SelectorError, match="invalid escape sequence"):
        parse_fields("a=b\\x")


KEYS = st.from_regex(r"[a-z]{1,3}", fullmatch=True)
VALUES = st.from_regex(r"([a-z0-9]{1,3})?", fullmatch=True)
REQUIREMENTS = st.one_of(
    st.builds(
        lambda key, op, value: selectors.requirement(key, op, [value]),
        KEYS,
        st.sampled_from(["=", "!="]),
        VALUES,
    ),
    st.builds(
        lambda key, op, values: selectors.requirement(key, op, values),
        KEYS,
        st.sampled_from(["In", "NotIn"]),
        st.lists(VALUES, min_size=1),
    ),
    st.builds(
        lambda key, op: selectors.requirement(key, op), KEYS, st.sampled_from(["Exists", "DoesNotExist"])
    ),
    st.builds(
        lambda key, op, value: selectors.requirement(key, op, [str(value)]),
        KEYS,
        st.sampled_from(["Gt", "Lt"]),
        st.integers(0, 10**15),
    ),
)


@given(st.lists(REQUIREMENTS, max_size=4), st.dictionaries(KEYS, VALUES, max_size=4))
def test_a_selector_and_its_string_choose_the_same(
    found: list[selectors.Requirement], labels: dict[str, str]
) -> None:
    selector = selectors.LabelSelector.of(found)
    again = parse_labels(str(selector))
    assert again == selector
    assert again.matches(labels) == selector.matches(labels)


@given(st.text() | st.text("ab=!(),<> in", max_size=20))
def test_any_text_parses_or_is_refused(text: str) -> None:
    for parse in (parse_labels, parse_fields):
        try:
            selector = parse(text)
        except SelectorError:
            continue
        assert parse(str(selector)) == selector


@given(
    st.dictionaries(
        st.text("a\\,=", min_size=1, max_size=2).filter(lambda key: key.isalpha()), st.text("a\\,= ")
    )
)
def test_field_values_are_escaped(fields: dict[str, str]) -> None:
    selector = selectors.FieldSelector(
        tuple(selectors.FieldRequirement(k, "=", v) for k, v in fields.items())
    )
    assert parse_fields(str(selector)) == selector
