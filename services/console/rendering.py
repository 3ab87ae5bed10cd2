"""From templates to HTML: every value escaped, an unknown one an error; and the filters that templates use."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context, select_autoescape
from jinja2.runtime import Context
from markupsafe import Markup

from services.console import entry_words, words
from services.console.menu import MENU
from services.console.preferences import Preferences
from services.console.sign_in import csrf
from services.console.sign_in.way_back import way_back_of
from services.console.times import instant, shown_time, zone_name
from services.domain.credits import format_credits, format_credits_roughly

if TYPE_CHECKING:
    from services.console.visit import Visit

_templates = Environment(
    loader=PackageLoader("services.console"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, visit: Visit | None, **values: Any) -> str:
    """The page; ``visit`` is None on those for whoever is not signed in."""
    return _templates.get_template(template).render(values, visit=visit)


def _preferences(context: Context) -> Preferences:
    visit: Visit | None = context["visit"]
    return Preferences() if visit is None else visit.preferences


@pass_context
def _credits(context: Context, mc: int) -> Markup:
    """``mc`` as credits with two decimals, the exact amount beside it; exact where the reader wants it so."""
    exact = format_credits(mc)
    shown = exact if _preferences(context).exact else format_credits_roughly(mc)
    return Markup('<data value="{}" title="exactly {} credits">{}</data>').format(exact, exact, shown)


@pass_context
def _time(context: Context, text: str) -> Markup:
    """A time of an API's answer on the reader's clock."""
    shown = shown_time(text, _preferences(context).time_zone)
    return Markup('<time datetime="{}">{}</time>').format(text, shown)


def _count(number: int) -> str:
    return f"{number:,}"


def _grouped(decimal: str) -> str:
    """A decimal of an API's answer, exact, with its thousands apart."""
    return f"{Decimal(decimal):,f}"


@pass_context
def _clock(context: Context, at: datetime | None = None) -> str:
    """The reader's time zone in words."""
    return zone_name(_preferences(context).time_zone, at or datetime.now(UTC))


@pass_context
def _csrf(context: Context) -> Markup:
    """The field that every form which is posted has to have."""
    visit: Visit = context["visit"]
    return Markup('<input type="hidden" name="{}" value="{}">').format(csrf.FIELD, visit.session.csrf)


@pass_context
def _here(context: Context) -> str:
    """This very page, to come back to."""
    visit: Visit = context["visit"]
    return way_back_of(visit.request)


_templates.filters.update(
    credits=_credits, time=_time, count=_count, grouped=_grouped, exactly=format_credits, instant=instant
)
_templates.globals.update(words=words, entry_words=entry_words, menu=MENU, clock=_clock, csrf=_csrf, here=_here)
