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


@pytest.mark.parametrize(
    "disguised",
    [
        rb"\\u0073k-proj-Z9y8Z9y8Z9y8",
        rb"\\u0073\\u006b\\u002dproj-Z9y8Z9y8Z9y8",
        rb"sk-proj-Z9y8Z9y8Z9y8\u005a\u0039y8",
        rb"%73%6b%2dproj-Z9y8Z9y8Z9y8",
        rb"sk%2Dproj%2DZ9y8Z9y8Z9y8",
        rb"%2573%256b%252dproj-Z9y8Z9y8Z9y8",
        "sk-proj-Z9y8Z9y8Z9y8".encode("utf-32-le").rstrip(b"\0"),
        rb"\u0041\u0051\u002eZ9y8Z9y8Z9y8Z9y8",
        rb"\u0041Iz\u0061Z9y8Z9y8Z9y8Z9y8",
        rb"f\u0077%5fZ9y8Z9y8Z9y8Z9y8",
        rb"%78ai%2d" + b"Z9y8" * 3,
    ],
)
def test_the_whole_of_a_disguised_key_is_masked_and_nothing_beside_it(disguised):
    assert mask_bytes(b'"' + disguised + b'"') == (b'"' + MASK.encode() + b'"', True)
    text = disguised.decode()
    assert mask_text(f"id={text}&") == f"id={MASK}&"


LONG_KEYS = [
    "sk-proj-Ab3_dEf-GhIjKlMnOpQrStUv",
    "sk-ant-api03-0123456789abcdefABCDEF_-",
    "sk-svcacct-a1B2c3D4e5F6g7H8",
    "sk-or-v1-0123456789abcdef0123456789abcdef",
    "sk-proj-0a1b2c3d4e5f6g7h",
    "sk-" + "a1B2c3D4e5" * 4,
    "AIzaSy" + "D-9tSrke72PouQMnMX_a7eZSW0jkFMBWY",
    "xai-" + "0aB1" * 20,
    "fw_" + "3ZaB" * 5,
    "AQ.Ab8RN6K0-_" + "xY7" * 8,
]


@pytest.mark.parametrize("key", LONG_KEYS)
@pytest.mark.parametrize("before", ["key", "x", "KEY", "9", "Bearer", r"\u0061", "%41", "[msg"])
def test_a_key_that_is_no_word_s_end_is_masked_right_behind_a_letter_or_digit(before, key):
    assert mask_text(f"{before}{key}.") == f"{before}{MASK}."
    assert mask_bytes(f"{before}{key}.".encode()) == (f"{before}{MASK}.".encode(), True)
    assert mask_bytes(f"{before}{key}".encode("utf-16-le"))[1]
    escaped = "".join(f"\\u{ord(character):04x}" for character in key)
    assert mask_bytes(f"{before}{escaped}.".encode()) == (f"{before}{MASK}.".encode(), True)


@pytest.mark.parametrize(
    "text",
    [
        "task-2026-11-29-report-final",
        "risk-assessment-of-office-7",
        "disk-usage-2026-11-29-of-all-hosts",
        "desk_2026_11_29_report_final",
        "task-or-ticket-2026-11-29-final",
        "task-proj-2026-11-29-final-report-2",
        "task-proj-apollo-v2-2026-11-29",
        "risk-or-opportunity-of-the-year",
        "disk-0123456789abcdef0123456789abcdef",
        "disk-123e4567-e89b-12d3-a456-426614174000",
        "task-" + "0123456789abcdef" * 4,
        "123e4567-e89b-12d3-a456-426614174000",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "FAQ.how-to-add-a-key-of-your-own-in-2026",
        "FAQ.HowToAddAKeyOfYourOwnToAnOrganization",
        "raw_fw_settings",
        "prefw_settings_2026_11_29_production",
        "taxai-" + "departments-2026-11-29-of-all-regions-in-europe",
        "MAIza" + "Beach" * 4,
        "[msk-cluster-2026-production]",
        '["task-2026-11-29-report-final"]',
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        r"ta\u0073k-2026-11-29-report-final",
        r"t\u0061sk-2026-11-29-report-final",
        r"t\u0061\u0073k\u002d2026-11-29-report-final",
        "t%61sk%2D2026-11-29-report-final",
        r"caf\u00e9, na\u00efve and 100 % of it",
    ],
)
def test_ordinary_words_and_ids_are_no_keys(text):
    assert mask_text(text) == text
    assert mask_bytes(text.encode()) == (text.encode(), False)
    wide = text.encode("utf-16")
    assert mask_bytes(wide) == (wide, False)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "colour",
    [
        "\x1b[31m",
        "\x1b[0m",
        "\x1b[m",
        "\x1b[1;38;2;255;255;255m",
        "\x1b[38:2::255:255:255m",
        "\x1b[01;31m\x1b[K",
        "[31m",
        "[1;32m",
        r"\x1b[0m",
        r"\u001b[32m",
        r"\u001B[m",
        r"\033[1m",
        r"\e[m",
    ],
)
def test_a_key_in_a_coloured_log_is_masked_and_its_colours_are_kept(colour, key):
    text = f"key: {colour}{key}\x1b[0m"
    assert mask_text(text) == f"key: {colour}{MASK}\x1b[0m"
    assert mask_bytes(text.encode()) == (f"key: {colour}{MASK}\x1b[0m".encode(), True)


def test_a_key_after_a_word_that_ends_with_a_zero_byte_is_masked():
    # As in a process's arguments and environment.
    assert mask_bytes(b"--key\0" + KEYS[1].encode() + b"\0") == (b"--key\0" + MASK.encode() + b"\0", True)
