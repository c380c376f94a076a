"""Our evaluation and the library's own, compared on generated expressions.

The expressions are well typed but for division, which may fail; both sides must fail or agree.
"""

from __future__ import annotations

from typing import Any

from cel_expr_python import cel
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bamikube.api.cel.environment import Environment
from bamikube.api.cel.types import DYN, CelError

DATA: dict[str, Any] = {"x": {"n": 3, "s": "abc", "l": [1, 2, 3], "m": {"a": 1, "b": 2}, "t": True, "d": 0.5}}

numbers = st.deferred(
    lambda: st.one_of(
        st.integers(-5, 5).map(lambda n: f"({n})"),
        st.sampled_from(["x.n", "x.l[0]", "x.l.size()", "x.m.a", "x.m['b']", "int(x.d)", "x.s.size()"]),
        st.builds("({} {} {})".format, numbers, st.sampled_from("+-*/%"), numbers),
        st.builds("({} ? {} : {})".format, truths, numbers, numbers),
    )
)
texts = st.deferred(
    lambda: st.one_of(
        st.sampled_from(["x.s", "'b'", "''", "'zz'", "string(x.n)", "string(x.d)", "string(x.t)"]),
        st.builds("({} + {})".format, texts, texts),
    )
)
truths = st.deferred(
    lambda: st.one_of(
        st.sampled_from(
            ["x.t", "true", "false", "has(x.n)", "has(x.q)", "'a' in x.m", "2 in x.l", "x.q == 1"]
        ),
        st.builds("({} {} {})".format, numbers, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), numbers),
        st.builds("({} {} {})".format, texts, st.sampled_from(["==", "<", ">="]), texts),
        st.builds("({} {} {})".format, truths, st.sampled_from(["&&", "||"]), truths),
        st.builds("!({})".format, truths),
        st.builds("{}.{}({})".format, texts, st.sampled_from(["contains", "startsWith", "endsWith"]), texts),
        st.builds(
            "x.l.{}(i, i > {} || {})".format,
            st.sampled_from(["all", "exists", "exists_one"]),
            numbers,
            truths,
        ),
        st.builds("(x.l.map(i, i * {}).filter(j, j > {}).size() > 1)".format, numbers, numbers),
        st.builds("x.m.all(k, x.m[k] > {})".format, numbers),
    )
)

OURS = Environment({"x": DYN})
THEIRS = cel.NewEnv(variables={"x": cel.Type.DYN})


def deepest(expression: str) -> int:
    depth = most = 0
    for letter in expression:
        depth += (letter == "(") - (letter == ")")
        most = max(most, depth)
    return most


def theirs(expression: str) -> Any:
    found = THEIRS.compile(expression).eval(data=DATA)
    return "failed" if found.type() == cel.Type.ERROR else found.plain_value()


def ours(expression: str) -> Any:
    try:
        return OURS.compile(expression).run(dict(DATA))[0]
    except CelError:
        return "failed"


@settings(max_examples=120, deadline=None)
@given(st.one_of(truths, numbers, texts))
def test_we_agree_with_the_library(expression: str) -> None:
    assume(deepest(expression) < 8)  # the parser stops at some depth
    assert ours(expression) == theirs(expression), expression
