"""Rounding for readers."""

import math

import pytest

from stages.report import text


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.number(0.6684), "0.668"),
        (text.number(144192.0), "144,192"),
        (text.number(31.416), "31.42"),
        (text.number(-0.5), "\u22120.500"),
        (text.number(math.nan), "\u2013"),
        (text.signed(0.0), "0.000"),
        (text.signed(0.0061), "+0.006"),
        (text.difference(0.006, -0.008, 0.02), "+0.006 [\u22120.008, +0.020]"),
        (text.difference(-304128.0, -304128.0, -304128.0), "\u2212304,128 (exact)"),
        (text.difference(0.007, -0.0003, 0.0148), "+0.0070 [\u22120.0003, +0.0148]"),
        (text.number(-0.0001), "0.000"),
        (text.difference(0.25, math.nan, math.nan), "+0.250"),
        (text.difference(math.nan, math.nan, math.nan), "\u2013"),
        (text.plus_minus(0.668, 0.66, 0.676), "0.668 \u00b1 0.008"),
        (text.plus_minus(144192.0, 144192.0, 144192.0), "144,192"),
        (text.plain(93.4, "%", beside=93.82), "93.40 %"),
        (text.plain(25557032, ""), "25,557,032"),
        (text.plain(-0.17, "%"), "\u22120.17 %"),
        (text.plain(1e-05), "0.00001"),
        (text.plain(None, "%"), "\u2013"),
        (text.engineering(144192), "144\u2009k"),
        (text.engineering(1814073344), "1.81\u2009G"),
        (text.engineering(12), "12"),
        (text.wrap("one two three", 7), ["one two", "three"]),
        (text.metric_order(["macs", "loss", "accuracy_after", "loss"]), ["accuracy_after", "macs", "loss"]),
    ],
)
def test_shown(shown: object, expected: object) -> None:
    assert shown == expected
