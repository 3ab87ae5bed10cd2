"""The public maps that are read, by name."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path

from services.cli.rate_card.price_maps import genai_prices, litellm
from services.cli.rate_card.price_maps.lines import Entry, PriceMapError
from services.runtime.command_failed import CommandFailed


class Source(StrEnum):
    """Whose map a file is."""

    LITELLM = "litellm"
    GENAI_PRICES = "genai-prices"


def read_map(source: Source, file: Path, at: datetime) -> tuple[Entry, ...]:
    """What the map says of ``at``. Raises CommandFailed where the file is none."""
    try:
        data = file.read_bytes()
        match source:
            case Source.LITELLM:
                return litellm.read(data)
            case Source.GENAI_PRICES:
                return genai_prices.read(data, at)
    except OSError as error:
        raise CommandFailed(f"{file}: {error.strerror}") from None
    except PriceMapError as error:
        raise CommandFailed(f"{file} {error}") from None


def source_and_file(written: str) -> tuple[Source, Path]:
    """``SOURCE:FILE`` in its parts. Raises CommandFailed where no such source is known."""
    name, colon, file = written.partition(":")
    if not (colon and file and name in list(Source)):
        raise CommandFailed(f"--against {written}: must be {' or '.join(f'{each}:FILE' for each in Source)}")
    return Source(name), Path(file)
