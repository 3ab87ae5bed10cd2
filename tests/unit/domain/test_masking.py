"""Keys are masked wherever they stand; words that only look a little like one are left alone."""

from __future__ import annotations

import pytest

from services.domain.masking import MASK, mask_bytes, mask_text

KEYS = [
    "sk-" + "a" * 13,
    "sk-proj-Ab3_dEf-GhIjKlMnOpQrStUv",
    "sk-ant-api03-0123456789abcdefABCDEF_-",
    "AIza" + "Sy" * 6,
    "AQ." + "Ab8-_" * 3,
    "xai-" + "0a" * 6,
    "fw_" + "3Z" * 7,
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "around", ["{}", '{{"api_key": "{}"}}', "Bearer {}", "key={}.", "({})", "\\n{}", "\\u003d{}", "%3D{}", "_{}", "é{}"]
)
def test_a_key_is_masked_wherever_it_stands(key, around):
    text = around.format(key)
    assert mask_text(text) == around.format(MASK)
    masked, found = mask_bytes(text.encode())
    assert found
    assert masked == around.format(MASK).encode()


def test_every_key_of_a_text_is_masked():
    assert mask_text(" ".join(KEYS)) == " ".join([MASK] * len(KEYS))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk-" + "a" * 12,
        "AIza" + "a" * 11,
        "xai-" + "a" * 11,
        "fw_" + "a" * 12,
        "AQ." + "a" * 12,
        "task-2026-04-27-nightly-report",
        "desk-0123456789abcdef",
        "gpt-5.1-codex-max and claude-sonnet-4-5",
    ],
)
def test_what_is_shorter_or_another_word_is_left_alone(text):
    assert mask_text(text) == text
    assert mask_bytes(text.encode()) == (text.encode(), False)


def test_bytes_that_are_not_utf_8_are_masked_too():
    assert mask_bytes(b"\xff" + KEYS[0].encode() + b"\xfe") == (b"\xff" + MASK.encode() + b"\xfe", True)


@pytest.mark.parametrize(
    "disguised",
    [
        rb'"sk\u002dproj-Z9y8Z9y8Z9y8"',
        rb'"\u0073k-proj-Z9y8Z9y8Z9y8"',
        rb'"\u0073\u006b\u002dproj-Z9y8\u005A9y8Z9y8"',
        '"sk-proj-Z9y8Z9y8Z9y8"'.encode("utf-16"),
        '"sk-proj-Z9y8Z9y8Z9y8"'.encode("utf-16-be"),
    ],
)
def test_a_key_in_disguise_is_masked_and_nothing_else_is_lost(disguised):
    value = b'before "' + disguised + b'" after \\u00e9'
    masked, found = mask_bytes(value)
    assert found
    assert b"9y8" not in masked.replace(b"\0", b"")
    assert masked.startswith(b'before "')
    assert masked.endswith(b'" after \\u00e9')


def test_escapes_without_a_key_stay_as_they_are():
    value = rb'{"id": "task\u002d2026\u002d1234567890123", "x": "\u00e9"}'
    assert mask_bytes(value) == (value, False)
