"""Masks whatever has the shape of a provider's key, in text that people or other programs will see.

The shapes are those of docs/design.md, Provider keys: hints, never gates. A key needs 16 characters to be one; right
behind a letter or digit, where it may be the end of a word, more that no word has.

Its characters may stand plainly, escaped as in JSON (``\\u0073``, also in JSON within JSON: ``\\\\u0073``), in percent
code (``%73``, also coded again: ``%2573``), or with zero bytes between them as in UTF-16 and UTF-32. A terminal's
colour before a key is no part of it. Not found is what was encoded otherwise (base64, HTML entities, compression), a
character disguised in two ways at once, and a key that something cuts in pieces.

One pattern finds all of it and looks at each character a bounded number of times, whatever the text: repetition never
gives back (``++``), and what looks ahead stops where the next key may begin.
"""

from __future__ import annotations

import re
import string
from functools import cache
from itertools import groupby

MASK = "[masked key]"
_MASK_BYTES = MASK.encode()

_DIGITS, _UPPER = string.digits, string.ascii_uppercase
_ALPHANUMERIC = string.ascii_letters + _DIGITS
_ANY = _ALPHANUMERIC + "_-"


def _codes(characters: str) -> str:
    """A pattern of the characters' codes in hexadecimal."""
    codes = sorted(f"{ord(character):02x}" for character in characters)
    return "|".join(
        f"{first}[{''.join(sorted({digit for code in group for digit in code[1] + code[1].upper()}))}]"
        for first, group in groupby(codes, key=lambda code: code[0])
    )


# How a character in disguise begins.
_DISGUISED = r"[\\%\x00]"


def _one(characters: str) -> str:
    """A pattern of one of the characters, plain or in disguise."""
    plain, codes = f"[{re.escape(characters)}]", _codes(characters)
    return rf"(?:{plain}|(?={_DISGUISED})\x00*+(?:{plain}|\\++u00(?:{codes})|%(?:25)*+(?:{codes})))"


def _word(characters: str) -> str:
    return "".join(map(_one, characters))


def _count(count: int, characters: str) -> str:
    """A pattern of so many of the characters. Plain ones are taken at once: nearly all keys are made of them."""
    plain, one = f"[{re.escape(characters)}]", _one(characters)
    return rf"(?:{plain}{{{count}}}+|(?={plain}*+{_DISGUISED})(?:{one}){{{count}}}+)"


def _ahead(wanted: str, among: str) -> str:
    """A pattern of nothing, where one of the ``wanted`` characters comes among the others before the next ``sk-``."""
    others = "".join(character for character in among if character not in wanted)
    quick = others.replace("s", "")
    slow = rf"s(?![k\\%\x00])|(?!{_word('sk-')}){_one(others)}" if "s" in others else _one(others)
    return rf"(?=(?:[{re.escape(quick)}]++|{slow})*+{_one(wanted)})"


_REST = f"(?:[{_ANY}]++|{_one(_ANY)})*+"

# A key that no letter or digit is before ("task-2026…" is a word): what follows its beginning.
_ALONE = {
    "sk-": _count(13, _ANY) + _REST,
    "AIza": _count(12, _ANY) + _REST,
    "AQ.": _count(13, _ANY) + _REST,
    "xai-": _count(12, _ANY) + _REST,
    "fw_": _count(13, _ANY) + _REST,
}

# And where one is: kinds that are named and, since "task-or-…-2026" is a word too, hold a digit and either an
# upper-case letter or many characters without a hyphen; or many characters of every sort.
_NAMED = f"(?=[apso]|{_DISGUISED})(?:{'|'.join(map(_word, ('ant-', 'proj-', 'svcacct-', 'or-')))})"
_RUN = f"(?=(?:(?:{_one(_ALPHANUMERIC)}){{1,5}}+{_one('-')})?+{_count(16, _ALPHANUMERIC)})"
_MIXED = "".join(_ahead(wanted, _ALPHANUMERIC) for wanted in (_DIGITS, _UPPER, string.ascii_lowercase))
_IN_A_WORD = {
    "sk-": (
        f"(?:{_NAMED}{_ahead(_DIGITS, _ANY)}(?:{_ahead(_UPPER, _ANY)}|{_RUN}){_count(16, _ANY)}"
        f"|(?={_count(40, _ALPHANUMERIC)}){_MIXED}){_REST}"
    ),
    "AIza": _count(30, _ANY) + _REST,
    "AQ.": f"(?={_count(30, _ANY)})" + _ahead(_DIGITS, _ANY) + _ahead(_UPPER, _ANY) + _REST,
    "xai-": _count(40, _ALPHANUMERIC) + _REST,
    "fw_": f"(?={_count(20, _ALPHANUMERIC)})" + _ahead(_DIGITS, _ALPHANUMERIC) + _REST,
}

# Looked at when the first character of a key has been read, so that the pattern begins with one of a few characters,
# which is what makes it fast; hence the dots.
_CODES_IN_WORDS = _codes(_ALPHANUMERIC)
# Lookbehind needs a length: so many characters may a colour's numbers have, as in "[1;38;2;255;255;255m".
_COLOUR_MAX = 24
_NUMBERS = "|".join(rf"(?<=\[[0-9;:]{{{length}}}[mK].)" for length in range(1, _COLOUR_MAX + 1))
# Without a number only behind an escape that is still there: "[msk-cluster-…]" is a word in brackets.
_ESCAPES = "|".join(rf"(?<={escape}\[[mK].)" for escape in (r"\x1b", r"\\u001[bB]", r"\\x1[bB]", r"\\033", r"\\e"))
_NO_WORD_BEFORE = rf"""(?s:
    (?<![A-Za-z0-9].)(?:(?!\x00)|(?<![A-Za-z0-9]\x00.)(?<![A-Za-z0-9]\x00\x00.)(?<![A-Za-z0-9]\x00\x00\x00.))
    |(?<=\\[nrtbf].)|(?<=\\x[0-9A-Fa-f]{{2}}.)
    |(?<=\\u[0-9A-Fa-f]{{4}}.)(?<!\\u00(?:{_CODES_IN_WORDS}).)
    |(?<=%[0-9A-Fa-f]{{2}}.)(?<!%(?:{_CODES_IN_WORDS}).)
    |(?<=[0-9;:][mK].)(?:{_NUMBERS})|(?<=\[[mK].)(?:{_ESCAPES})
)"""


_IN_CODE = "|".join(f"(?:{_codes(beginning[0])}){_word(beginning[1:])}" for beginning in _ALONE)
_BEGINS = "|".join(
    [
        *(f"{beginning[0]}(?={_word(beginning[1:])})" for beginning in _ALONE),
        rf"\\(?<!\\\\)(?=\\*+u00(?:{_IN_CODE}))",
        f"%(?=(?:25)*+(?:{_IN_CODE}))",
    ]
)


def _rest_of(beginning: str) -> str:
    """What follows the byte with which a beginning begins. The group says whether it stands alone."""
    first, codes = beginning[0], _codes(beginning[0])
    read = rf"(?:(?<={first})|(?<=\\)\\*+u00(?:{codes})|(?<=%)(?:25)*+(?:{codes}))"
    return f"{read}{_word(beginning[1:])}(?(1){_ALONE[beginning]}|{_IN_A_WORD[beginning]})"


_PATTERN = f"(?:{_BEGINS})(?>{_NO_WORD_BEFORE}()|)(?:{'|'.join(map(_rest_of, _ALONE))})"
# Without one of these there is no key; nearly all there is to look through has none, and this is far faster.
_HINTS = (*_ALONE, r"\u00", "%", "\x00")
_HINTS_IN_BYTES = tuple(hint.encode() for hint in _HINTS)


# To compile the pattern takes 30 ms: many a command ends before it has come upon a hint.
@cache
def _in_text() -> re.Pattern[str]:
    return re.compile(_PATTERN, re.VERBOSE)


@cache
def _in_bytes() -> re.Pattern[bytes]:
    return re.compile(_PATTERN.encode(), re.VERBOSE)


def mask_text(text: str) -> str:
    """``text`` with every key in it replaced by ``MASK``."""
    return _in_text().sub(MASK, text) if any(hint in text for hint in _HINTS) else text


def mask_bytes(value: bytes) -> tuple[bytes, bool]:
    """``value`` with every key in it replaced by ``MASK``, and whether there was one.

    Time and memory are linear in the length of ``value``: a few times its size, whatever it holds.
    """
    if not any(hint in value for hint in _HINTS_IN_BYTES):
        return value, False
    # Not by ``sub``, which holds some 100 bytes for each key until the end.
    masked, end = bytearray(), 0
    for found in _in_bytes().finditer(value):
        masked += value[end : found.start()]
        masked += _MASK_BYTES
        end = found.end()
    if not end:
        return value, False
    masked += value[end:]
    return bytes(masked), True
