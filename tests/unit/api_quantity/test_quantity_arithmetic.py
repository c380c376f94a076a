"""Quantities: exact amounts, canonical text."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.api.quantity import BINARY, DECIMAL, EXPONENT, Quantity, QuantityError, canonical, total


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0", "0"),
        ("0.0", "0"),
        ("00", "0"),
        ("0m", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("-1", "-1"),
        (".5", "500m"),
        ("5.", "5"),
        ("0.1", "100m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1024Ki", "1Mi"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("1.5Gi", "1536Mi"),
        ("0.1Ki", "102400m"),
        ("0.0001Ki", "102400u"),
        ("1.1Gi", "1181116006400m"),
        ("128974848", "128974848"),
        ("129e6", "129e6"),
        ("129M", "129M"),
        ("123Mi", "123Mi"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("12e-1", "1200e-3"),
        ("1e0", "1"),
        ("1e-10", "1e-9"),
        ("1e-999999999", "1e-9"),
        ("0.0000000001", "1n"),
        ("-0.0000000001", "-1n"),
        ("1u", "1u"),
        ("1E", "1E"),
        ("1Ei", "1Ei"),
        ("100Ei", "9223372036854775807"),
        ("9223372036854775808", "9223372036854775807"),
        ("1" + "0" * 400, "9223372036854775807"),
        ("0." + "0" * 400 + "1", "1n"),
        ("10E", "10E"),
    ],
)
def test_canonical_text(text: str, shown: str) -> None:
    assert canonical(text) == shown
    assert canonical(shown) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "quantities must match the regular expression"),
        ("abc", "quantities must match the regular expression"),
        ("1.2.3", "quantities must match the regular expression"),
        ("1 Gi", "quantities must match the regular expression"),
        ("1\n", "quantities must match the regular expression"),
        ("m", "unable to parse numeric part of quantity"),
        (".", "unable to parse numeric part of quantity"),
        ("1mi", "unable to parse quantity's suffix"),
        ("1K", "unable to parse quantity's suffix"),
        ("1ee3", "unable to parse quantity's suffix"),
        ("1e", "unable to parse quantity's suffix"),
        ("1e99999999999999999999", "unable to parse quantity's suffix"),
    ],
)
def test_what_is_no_quantity(text: str, message: str) -> None:
    with pytest.raises(QuantityError, match="^" + message.split("'")[0]):
        Quantity.parse(text)


def test_numbers_and_rounding() -> None:
    assert Quantity.parse(2) == Quantity.parse("2")
    assert str(Quantity.parse(0.25)) == "250m"
    assert Quantity.parse("100m").value() == 1
    assert Quantity.parse("-100m").value() == -1
    assert Quantity.parse("1u").milli_value() == 1
    assert Quantity.parse("2").milli_value() == 2000
    assert Quantity.parse("1Gi").value() == 2**30
    assert Quantity.parse("1Gi") == Quantity.parse("1024Mi")
    assert Quantity.parse("1Gi").format == BINARY
    assert Quantity.parse("1e3").format == EXPONENT
    assert Quantity.of_milli(250).format == DECIMAL
    with pytest.raises(QuantityError):
        Quantity.parse(True)


def test_sums_keep_the_writing_of_the_first() -> None:
    assert str(Quantity.parse("1Gi").add(Quantity.parse("1G"))) == "2073741824"
    assert str(Quantity.parse("0").add(Quantity.parse("1Gi"))) == "1Gi"
    assert str(Quantity.parse("1Gi").sub(Quantity.parse("512Mi"))) == "512Mi"
    assert str(total([Quantity.parse("250m")] * 3)) == "750m"
    assert str(Quantity.parse("250m").mul(4)) == "1"


AMOUNTS = st.integers(-(10**30), 10**30)
FAMILIES = st.sampled_from([BINARY, DECIMAL, EXPONENT])


@given(st.integers(-(2**63) + 1, 2**63 - 1), FAMILIES)
def test_text_round_trips(number: int, family: str) -> None:
    quantity = Quantity(number, family)
    assert Quantity.parse(str(quantity)) == quantity
    if family != BINARY:  # 5000 bytes say no family any more and read back as 5k
        assert canonical(str(quantity)) == str(quantity)


@given(AMOUNTS, AMOUNTS)
def test_order_and_sum_are_those_of_numbers(left: int, right: int) -> None:
    one, two = Quantity(left), Quantity(right)
    assert (one < two) == (left < right)
    assert one.compare(two) == (left > right) - (left < right)
    assert one.add(two).sub(two) == one


@given(
    st.integers(0, 10**8),
    st.text("0123456789", max_size=8),
    st.sampled_from(["n", "u", "m", "", "k", "M", "G", "Ki", "Gi"]),
)
def test_value_is_the_exact_number_rounded_up(whole: int, fraction: str, suffix: str) -> None:
    powers = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9}
    unit = (
        Fraction(10) ** powers[suffix] if suffix in powers else Fraction(1024) ** {"Ki": 1, "Gi": 3}[suffix]
    )
    exact = (Fraction(whole) + Fraction(int(fraction or "0"), 10 ** len(fraction))) * unit
    quantity = Quantity.parse(f"{whole}.{fraction}{suffix}")
    assert quantity.nanos == -(-exact * 10**9 // 1)


@given(st.text("0123456789.+-eEinumkKMGTP", max_size=30) | st.text())
def test_any_text_is_a_quantity_or_a_quantity_error(text: str) -> None:
    try:
        quantity = Quantity.parse(text)
    except QuantityError:
        return
    assert Quantity.parse(str(quantity)) == quantity
