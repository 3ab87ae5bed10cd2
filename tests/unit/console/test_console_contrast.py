"""Every colour of text and of charts stands out from what it stands on, in both schemes (WCAG 2.2, AA)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STYLE = (Path(__file__).parents[3] / "services" / "console" / "static" / "console.css").read_text(encoding="utf-8")
SCHEMES = {
    name: dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", part))
    for name, part in zip(("light", "dark"), STYLE.split("@media")[:2], strict=True)
}
TEXT_ON = {
    "ink": ("page", "card", "good", "bad-soft", "accent-soft", "warn-soft"),
    "soft": ("page", "card"),
    "accent": ("page", "card", "accent-soft"),
    "accent-ink": ("accent",),
    "bad": ("card", "bad-soft"),
    "saved-ink": ("good", "card"),
    "warn": ("warn-soft",),
}
SHAPES_ON = {
    "charged": ("card", "saved"),
    "saved": ("card",),
    "mark": ("card",),
    "field": ("card",),
}


def _luminance(colour):
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one, other):
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("pairs", "least"), [(TEXT_ON, 4.5), (SHAPES_ON, 3)], ids=["text", "shapes"])
def test_colours_stand_out(scheme, pairs, least):
    colours = SCHEMES[scheme]
    too_close = {
        (one, ground): round(ratio, 2)
        for one, grounds in pairs.items()
        for ground in grounds
        if (ratio := _contrast(colours[one], colours[ground])) < least
    }
    assert not too_close
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)


def test_colour_is_never_the_only_cue_of_the_chart():
    template = (Path(__file__).parents[3] / "services" / "console" / "templates" / "savings.html").read_text("utf-8")
    assert 'fill="url(#stripes)"' in template
    assert re.search(r"\.chart \.mark line \{[^}]*stroke-dasharray", STYLE)


def test_both_schemes_have_the_same_colours():
    assert SCHEMES["light"].keys() == SCHEMES["dark"].keys()
