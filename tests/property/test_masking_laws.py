"""Laws of masking: one pattern finds what reading a character at a time finds, and costs little."""

from __future__ import annotations

import re
import resource
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.domain.masking import MASK, mask_bytes, mask_text

_KEY = re.compile(
    rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf]))"
    rb"(?:sk-[\w-]{13,}|AIza[\w-]{12,}|AQ\.[\w-]{13,}|xai-[\w-]{12,}|fw_[\w-]{13,})",
    re.ASCII,
)
_CHARACTER = re.compile(rb"\\+u([0-9A-Fa-f]{4})|%(?:25)*([0-9A-Fa-f]{2})|\x00+|(.)", re.DOTALL)


def masked_a_character_at_a_time(value: bytes) -> bytes:
    """The same by an obvious way, which takes an object for each character."""
    plain, places = bytearray(), []
    for match in _CHARACTER.finditer(value):
        code = int(match[1] or match[2], 16) if match[1] or match[2] else match[3][0] if match[3] else None
        if code is not None:
            plain.append(code if code < 0x80 else 0x80)
            places.append(match.span())
    parts, end = [], 0
    for found in _KEY.finditer(plain):
        parts += [value[end : places[found.start()][0]], MASK.encode()]
        end = places[found.end() - 1][1]
    return b"".join([*parts, value[end:]])


# Too short, together, for the rules of a key right behind a letter or digit, which the obvious way does not know.
_PIECES = st.one_of(
    st.sampled_from(["sk-", "AIza", "AQ.", "xai-", "fw_", "a" * 9, "Ab3_dEf-", "2026-11-2"]),
    st.text('sk-AIzaQ.xfw_09 "{é', max_size=4),
)
_TEXTS = st.lists(_PIECES, max_size=3).map("".join)


@st.composite
def disguised(draw: st.DrawFn) -> bytes:
    """A text of which any character may be disguised."""
    text = draw(_TEXTS)
    if draw(st.booleans()):
        return text.encode(draw(st.sampled_from(["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])))
    often = draw(st.integers(0, 2))
    drawn = []
    for character in text:
        way = draw(st.integers(0, 5)) if often and ord(character) < 0x80 else 5
        drawn.append(
            {
                0: f"\\u{ord(character):04x}",
                1: f"\\u{ord(character):04X}",
                2: f"\\\\u{ord(character):04x}",
                3: f"%{ord(character):02X}",
                4: f"%25{ord(character):02x}",
            }.get(way, character).encode()
        )
    return b"".join(drawn)


@settings(max_examples=400)
@given(disguised())
@example(rb"\u0061\u0073k-aaaaaaaaaaaaa")
@example(rb"sk-aaaaaaaaaaaa\u0061")
@example(rb"sk-aaaaaaaaaaaaa\\u0061")
@example(b"\\u0020sk-aaaaaaaaaaaaa")
def test_the_pattern_finds_what_reading_a_character_at_a_time_finds(value: bytes) -> None:
    expected = masked_a_character_at_a_time(value)
    assert mask_bytes(value) == (expected, expected != value)


@given(st.one_of(disguised(), st.binary(max_size=40)), st.one_of(disguised(), st.binary(max_size=40)))
def test_what_was_masked_once_holds_no_key_any_more(before: bytes, after: bytes) -> None:
    masked, _ = mask_bytes(before + after)
    assert mask_bytes(masked) == (masked, False)


@given(disguised().map(lambda value: value.decode("latin-1")))
def test_text_and_bytes_are_masked_the_same(text: str) -> None:
    assert mask_text(text).encode("latin-1") == mask_bytes(text.encode("latin-1"))[0]


_MIB = 1 << 20
_SIZE = 4 * _MIB
# What costs most, each in its own way: disguises, runs, beginnings without end, words that nearly are keys.
_HARD = [
    rb"\u0041",
    rb"a\u0073k-or-",
    rb"%73%6b%2d%",
    b"%25",
    b"\x00",
    b"s\x00k\x00-\x00\x00 ",
    b"\\",
    b"sk-\\\\",
    b"sk-",
    b"sk-aaaaaaaaaaaaa ",
    b"sk-aaaaaaaaaaaa ",
    b"ask-or-",
    b"ask-or-1",
    b"ask-or-%41",
    b"ask-proj-s",
    b"msk-",
    b"xsk-" + b"a" * 39 + b" ",
    b"xAIzaAIzaAIzaAIza ",
    b"[1;1;1;1;1;1;1;1;1;1msk-",
    b"FAQ.aaaaaaaaaaaaaaaaaaaaaaaaaaaa ",
]
_MEASURE = """
import resource, sys
from services.domain.masking import mask_bytes
value = sys.stdin.buffer.read()
mask_bytes(value[:1000])
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
mask_bytes(value)
print(peak() - before)
"""


@pytest.mark.parametrize("unit", _HARD)
@pytest.mark.parametrize("begin", [b"", b"sk-", b"xsk-or-"])
def test_the_time_is_linear_whatever_the_text(unit: bytes, begin: bytes) -> None:
    # Where time grew with the square of the length, these would take minutes to days.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    mask_bytes(begin + unit * (_MIB // len(unit)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 5


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
@pytest.mark.parametrize("unit", [rb"\u0041", b"\x00", b"\\", b"sk-aaaaaaaaaaaaa ", b"ask-or-1", b"sk-\\u0061"])
def test_memory_is_a_few_times_the_text(unit: bytes) -> None:
    value = unit * (_SIZE // len(unit))
    measured = subprocess.run([sys.executable, "-c", _MEASURE], input=value, capture_output=True, check=True)
    assert int(measured.stdout) * 1024 < 5 * _SIZE
