"""Expressions and what they come to: the language, and Kubernetes' additions."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api.cel.environment import Environment, ObjectType
from bamikube.api.cel.types import (
    DYN,
    INT,
    STRING,
    BudgetExceeded,
    CelError,
    CompileError,
    Type,
    list_of,
    map_of,
)

WIDGET = Type("object", (), "schema.Widget")
ENVIRONMENT = Environment(
    {"self": WIDGET, "any": DYN},
    (
        ObjectType(
            "schema.Widget",
            {
                "replicas": INT,
                "missing": INT,
                "names": list_of(STRING),
                "labels": map_of(STRING, STRING),
                "__namespace__": STRING,
                "a__dash__b": INT,
                "matrix": list_of(list_of(INT)),
            },
        ),
    ),
)
VALUES: dict[str, Any] = {
    "self": {
        "replicas": 3,
        "names": ["a", "bb"],
        "labels": {"x__dot__y": "1", "z": "2"},
        "namespace": "shop",
        "a-b": 7,
        "matrix": [[1, 2], [3]],
    },
    "any": {"price": 1.5, "list": [1, 2, 3], "nothing": None, "nul": "good\0evil"},
}


def run(expression: str) -> Any:
    return ENVIRONMENT.compile(expression).run(dict(VALUES))[0]


@pytest.mark.parametrize(
    "expression",
    """
    self.replicas > 1 && self.a__dash__b == 7 && self.__namespace__ == 'shop'
    self.labels.x__dot__y == '1' && 'z' in self.labels && !('q' in self.labels)
    self.names.all(n, n.size() > 0) && self.names.exists(n, n == 'bb') && self.names.exists_one(n, n == 'a')
    self.names.map(n, n + '!') == ['a!', 'bb!'] && self.names.map(n, n == 'a', n + n) == ['aa']
    self.names.filter(n, n.startsWith('b')).size() == 1
    has(self.replicas) && !has(self.missing)
    self.?missing.orValue(9) == 9 && self.?replicas.hasValue() && self.?replicas.value() == 3
    self.?labels[?'z'].orValue('') == '2' && self.?labels[?'q'].orValue('none') == 'none'
    optional.of(2).optMap(x, x + 1).value() == 3 && !optional.none().hasValue()
    [?optional.none(), ?optional.of(1)] == [1] && {?'a': optional.none()} == {}
    self.matrix[0][1] == 2 && self.matrix.all(row, row.all(x, x > 0))
    any.list.all(i, v, v == i + 1) && any.list.transformList(i, v, v * 2) == [2, 4, 6]
    any.price < 2 && any.list[0] == 1.0 && 1u < 2.0
    any.nothing == null && any.nul != 'good'
    1 / 0 == 1 || true
    !(1 / 0 == 1 && false)
    [1, 2].exists(x, 1 / (x - 1) > 0)
    -7 / 2 == -3 && -7 % 2 == -1 && 7.0 / 2.0 == 3.5
    'a' < 'b' && b'a' < b'b' && false < true
    type(1) == int && type('') == string && type([]) == list && type(1.0) == double
    int('12') == 12 && double('1.5') == 1.5 && string(true) == 'true' && uint(3) == 3u && int(1.9) == 1
    string(1.5) == '1.5' && string(1.0) == '1' && string(b'abc') == 'abc' && bool('true')
    duration('90m') == duration('1h30m') && string(duration('1500ms')) == '1.5s'
    timestamp('2024-02-29T12:00:00Z') + duration('24h') == timestamp('2024-03-01T12:00:00Z')
    timestamp('2024-02-29T12:30:00+02:00').getHours() == 10 && timestamp('2024-02-29T00:00:00Z').getDayOfWeek() == 4
    timestamp('2024-02-29T12:00:00Z').getMonth() == 1 && timestamp('2024-02-29T12:00:00Z').getDate('Asia/Seoul') == 29
    duration('1h5s').getSeconds() == 3605
    'abc'.charAt(1) == 'b' && 'abcabc'.indexOf('c') == 2 && 'abcabc'.lastIndexOf('c') == 5 && 'abc'.indexOf('z') == -1
    ['a', 'b'].join('-') == 'a-b' && 'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c']
    'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco' && ' x '.trim() == 'x'
    'hello hello'.replace('he', 'we') == 'wello wello' && 'hello hello'.replace('he', 'we', 1) == 'wello hello'
    'ABCÄ'.lowerAscii() == 'abcÄ' && 'abc'.upperAscii() == 'ABC' && 'abc'.reverse() == 'cba'
    'abc 123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2'] && 'a1b2'.findAll('[0-9]', 1) == ['1']
    'foo-123'.matches('^[a-z]+-[0-9]{3}$') && 'x'.find('y') == ''
    '%s is %d, %.2f, %x, %b'.format(['a', 10, 2.5, 255, 5]) == 'a is 10, 2.50, ff, 101'
    '%s %s'.format([[1, 'a', null], {'k': true}]) == '[1, a, null] {k: true}'
    [1, 2, 3].sum() == 6 && [1.5, 2.5].sum() == 4.0 && [3, 1, 2].max() == 3 && ['b', 'a'].min() == 'a'
    [1, 2, 2].isSorted() && ![2, 1].isSorted() && [1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2
    sets.contains([1, 2, 3], [2, 3]) && sets.equivalent([1, 2], [2, 1, 1]) && !sets.intersects([1], [2])
    math.greatest(1, 5, 3) == 5 && math.least([4, 2, 3]) == 2 && math.abs(-1) == 1 && math.ceil(1.2) == 2.0
    quantity('1Gi').isGreaterThan(quantity('999Mi')) && quantity('1000m') == quantity('1')
    quantity('50k').add(quantity('20k')).compareTo(quantity('70k')) == 0 && quantity('50k').sub(20).asInteger() == 49980
    isQuantity('1.5Gi') && !isQuantity('1,5') && quantity('-1').sign() == -1 && quantity('1.5').asApproximateFloat() == 1.5
    isIP('::1') && !isIP('256.0.0.1') && ip('192.168.0.1').family() == 4 && ip('::1').isLoopback()
    ip.isCanonical('2001:db8::abcd') && !ip.isCanonical('2001:DB8::ABCD') && string(ip('10.0.0.1')) == '10.0.0.1'
    cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))
    cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').ip() == ip('10.1.2.3')
    isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0') && cidr('::1/128').prefixLength() == 128
    url('https://u@example.com:8443/a%20b?x=1&x=2').getHost() == 'example.com:8443' && isURL('/path') && !isURL('path')
    url('https://[::1]:80/').getHostname() == '::1' && url('http://a/?x=1&x=2').getQuery()['x'] == ['1', '2']
    !format.dns1123Label().validate('a-b').hasValue() && format.named('uuid').hasValue() && !format.named('x').hasValue()
    format.dns1123Label().validate('A').orValue([]).size() == 1
    semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').isLessThan(semver('1.0.0')) && isSemver('1.0.0')
    semver('v1.2', true).minor() == 2 && !isSemver('v1.2')
    """.strip().splitlines(),
)
def test_is_true(expression: str) -> None:
    assert run(expression.strip()) is True


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("self.missing > 1", "no such key: missing"),
        ("any.list[3] == 1", "index out of bounds: 3"),
        ("any.map.x == 1", "no such key: map"),
        ("9223372036854775807 + 1 == 0", "integer overflow"),
        ("1 / 0 == 1", "division by zero"),
        ("1 % 0 == 1", "modulus by zero"),
        ("any.price + any.list[0] == 2", "no such overload: _+_"),
        ("any.price ? true : false", "no such overload"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("int('x') == 1", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("quantity('x').sign() == 0", "quantities must match the regular expression"),
        ("any.nul.matches(any.nul + '(')", "error parsing regexp"),
        ("{'a': 1, 'a': 2}.size() == 1", "Failed with repeated key a"),
        (
            "timestamp('9999-12-31T00:00:00Z') + duration('48h') == timestamp('2024-01-01T00:00:00Z')",
            "timestamp overflow",
        ),
    ],
)
def test_fails_when_it_runs(expression: str, message: str) -> None:
    with pytest.raises(CelError) as raised:
        run(expression)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "self.nofield == 1",
            "ERROR: <input>:1:5: undefined field 'nofield'\n | self.nofield == 1\n | ....^",
        ),
        ("self.replicas > 'a'", "found no matching overload for '_>_' applied to '(int, string)'"),
        ("self.replicas == null", "found no matching overload for '_==_' applied to '(int, null)'"),
        ("nobody", "undeclared reference to 'nobody' (in container '')"),
        (
            "1 == nobody.a.b",
            "ERROR: <input>:1:6: undeclared reference to 'nobody' (in container '')\n | 1 == nobody.a.b\n | .....^",
        ),
        ("self.replicas +", "Syntax error: mismatched input '<EOF>'"),
        ("self.names.map(n, n + 1)", "found no matching overload for '_+_' applied to '(string, int)'"),
        ("quantity('1').isGreaterThan(1)", "applied to '(kubernetes.Quantity, int)'"),
        ("'x'.matches('(')", "error parsing regexp"),
        ("duration('1x') == duration('1s')", 'time: invalid duration "1x"'),
    ],
)
def test_is_refused_when_it_is_written(expression: str, message: str) -> None:
    with pytest.raises(CompileError) as raised:
        ENVIRONMENT.compile(expression)
    assert message in str(raised.value)


def test_an_evaluation_stops_at_its_limit() -> None:
    program = ENVIRONMENT.compile("any.list.all(a, any.list.all(b, any.list.all(c, a + b + c > 0)))")
    value, cost = program.run(dict(VALUES))
    assert value is True
    assert program.run(dict(VALUES), limit=cost)[0] is True
    with pytest.raises(BudgetExceeded):
        program.run(dict(VALUES), limit=cost - 1)


def test_a_hostile_pattern_takes_linear_time() -> None:
    program = ENVIRONMENT.compile("any.text.matches('(a*)*b')")
    assert program.run({"any": {"text": "a" * 50_000}})[0] is False


def test_variables_survive_a_fold_of_the_same_name() -> None:
    assert run("any.list.map(any, any + 1) == [2, 3, 4] && any.price == 1.5") is True
