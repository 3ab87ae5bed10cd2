"""What is taken off a pasted key, and whose it looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.console.pasted_keys import looks_like, looks_of_others, pasted_key

KEY = "sk-proj-made-up-1234567890"
AROUND = (
    "",
    " ",
    "\t",
    "\r\n",
    "\u200b",
    "\ufeff",
    "\u00a0",
    "\u2060",
    '"',
    "'",
    "`",
    "“",
    "”",
    "«",
    "»",
    "\u202a",
    " \u200b“",
)


@given(st.lists(st.sampled_from(AROUND), max_size=5), st.lists(st.sampled_from(AROUND), max_size=5))
def test_what_nobody_sees_space_and_quotes_are_taken_off(before, after):
    assert pasted_key("".join(before) + KEY + "".join(after)).get_secret_value() == KEY


def test_what_nobody_sees_is_taken_out_of_the_middle_and_nothing_else_is():
    assert pasted_key("sk-\u200bproj-\u00ada").get_secret_value() == "sk-proj-a"
    assert pasted_key("sk-proj one two").get_secret_value() == "sk-proj one two"
    assert pasted_key(" \u200b'' ").get_secret_value() == ""


@given(st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\"'`"), min_size=1))
def test_a_key_as_it_is_stays_as_it_is(key):
    assert pasted_key(key).get_secret_value() == key


@pytest.mark.parametrize(
    ("beginning", "providers"),
    [
        ("sk-ant-api03-", {"anthropic"}),
        ("sk-proj-", {"openai"}),
        ("sk-svcacct-", {"openai"}),
        ("sk-", {"openai", "deepseek"}),
        ("AIza", {"google"}),
        ("AQ.", {"google"}),
        ("xai-", {"xai"}),
        ("fw_", {"fireworks"}),
        ("something-else-", set()),
    ],
)
def test_whose_a_key_looks_like(beginning, providers):
    key = SecretStr(f"{beginning}0123456789abcdef")
    assert looks_like(key) == providers
    for provider in ("openai", "anthropic", "google", "xai", "deepseek", "fireworks", "one-of-tomorrow"):
        expected = () if provider in providers else tuple(sorted(providers))
        assert looks_of_others(key, provider) == expected
