"""How the rows of a file become events: what the options of ``byok usage publish`` say, alone or on top of a profile.

A profile is a file of JSON that says it for the exports of one vendor. Those that we know are packaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.usage_events import EVENT_MODELS
from services.cli.usage.fields import target
from services.cli.usage.formats import FileFormat, TimeFormat

_PACKAGED = files("services.cli.usage") / "profiles"


def _targets(pairs: Mapping[str, Any]) -> dict[str, Any]:
    return {target(name): value for name, value in pairs.items()}


ByField = AfterValidator(_targets)
"""Keys are fields of an event, as ``--map`` names them."""


class About(BaseModel):
    """What a person should know about a profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str
    """Which file of which vendor, and how one gets it."""
    shape_from: tuple[str, ...]
    """Where its columns were read."""
    unconfirmed: tuple[str, ...] = ()
    """What could not be found out, or what the file does not say."""
    to_give: dict[str, str] = {}
    """What the file lacks, fields or options, and how it is given."""


class Sums(BaseModel):
    """How much is known of a row that may be a sum over requests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    until: str | None = None
    """The column with the end of the time that it sums up; without it, a day."""
    requests: str | None = None
    """The column with how many requests there were."""


class Profile(BaseModel):
    """How the rows of a file become events."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    about: About | None = None
    file_format: FileFormat | None = Field(None, alias="format")
    delimiter: str | None = None
    encoding: str | None = None
    rows: str | None = None
    """Where in a JSON document the array of rows is."""
    unit_from: str | None = None
    """In long format, the column that names the unit."""
    count_from: str | None = None
    """And the one that has the count."""
    ignore_units: tuple[str, ...] = ()
    maps: Annotated[dict[str, str], ByField] = Field({}, alias="map")
    sets: Annotated[dict[str, str], ByField] = Field({}, alias="set")
    defaults: Annotated[dict[str, str], ByField] = Field({}, alias="default")
    values: Annotated[dict[str, dict[str, str | None]], ByField] = {}
    """What some texts of a field mean, in other words than ours; null: as an empty cell."""
    where: dict[str, tuple[str, ...]] = {}
    skip_empty: bool = False
    id_from: tuple[str, ...] = ()
    event_type: str | None = Field(None, alias="type")
    source: str | None = None
    time_format: str = TimeFormat.ISO
    time_zone: str | None = None
    sums: Sums | None = None
    """Where a row may be a sum over several requests."""

    def with_options(self, options: Profile) -> Profile:
        """The same where the options say nothing: they win, pair by pair."""
        changes: dict[str, Any] = {}
        for name in options.model_fields_set:
            own, given = getattr(self, name), getattr(options, name)
            changes[name] = own | given if isinstance(own, dict) else given
        return self.model_copy(update=changes)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.event_type is not None and self.event_type not in EVENT_MODELS:
            raise ValueError(f"--type {self.event_type}: must be one of {', '.join(EVENT_MODELS)}")
        if (self.unit_from is None) != (self.count_from is None):
            raise ValueError("--unit-from and --count-from belong together")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ValueError("--delimiter: must be one character, and neither a quote nor a line end")
        return self


def packaged() -> list[str]:
    """The names of the profiles that ship with us."""
    return sorted(each.name.removesuffix(".json") for each in _PACKAGED.iterdir() if each.name.endswith(".json"))


def load(name: str) -> Profile:
    """The profile that is packaged under a name, or that a file ``NAME.json`` of one's own holds. Raises ValueError."""
    is_file = name.endswith(".json")
    if not is_file and name not in packaged():
        raise ValueError(f"--profile {name}: there is none; there are {', '.join(packaged())}, or a FILE.json")
    try:
        text = Path(name).read_text(encoding="utf-8") if is_file else (_PACKAGED / f"{name}.json").read_text("utf-8")
        return Profile.model_validate_json(text)
    except OSError as error:
        raise ValueError(f"--profile {name}: {error.strerror}") from None
    except ValidationError as error:
        raise ValueError(f"--profile {name}: {in_words(error)}") from None


def in_words(error: ValidationError) -> str:
    """Everything that is wrong with a profile, or with the options."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(
        ": ".join([*filter(None, [".".join(map(str, problem["loc"]))]), problem["msg"].removeprefix("Value error, ")])
        for problem in problems
    )
