"""What a meter is told, from its environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from byok_sdk import Settings, SettingsError

REQUIRED = {
    "BYOK_REGISTRY_URL": "https://registry",
    "BYOK_LEDGER_URL": "https://ledger",
    "BYOK_TOKEN": "made-up",
    "BYOK_SPOOL_DIR": "/var/spool/byok",
}


def test_settings_are_read_from_the_environment() -> None:
    settings = Settings.from_env(
        REQUIRED | {"BYOK_DURABILITY": "process", "BYOK_EXIT_SECONDS": "0.5", "BYOK_SPOOL_EVENTS_MAX": "7"},
        source="mine",
    )
    assert (settings.spool_dir, settings.durability, settings.source) == (Path("/var/spool/byok"), "process", "mine")
    assert (settings.exit_seconds, settings.spool_events_max) == (0.5, 7)
    assert "made-up" not in repr(settings)
    assert settings.headers()["Authorization"] == "Bearer made-up"


def test_a_token_in_a_file_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    settings = Settings.from_env(REQUIRED | {"BYOK_TOKEN": "", "BYOK_TOKEN_FILE": str(file)})
    file.write_text("second\n")
    assert settings.headers()["Authorization"] == "Bearer second"
    file.unlink()
    with pytest.raises(SettingsError, match="cannot be read"):
        settings.headers()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"BYOK_LEDGER_URL": ""}, "BYOK_LEDGER_URL"),
        ({"BYOK_LEDGER_URL": "ledger:80"}, "ledger_url"),
        ({"BYOK_TOKEN": "two\nlines"}, "token"),
        ({"BYOK_TOKEN": ""}, "token"),
        ({"BYOK_TOKEN_FILE": "/nowhere"}, "either token or token_file"),
        ({"BYOK_DURABILITY": "maybe"}, "durability"),
        ({"BYOK_WHEN_FULL": "drop"}, "when_full"),
        ({"BYOK_EXIT_SECONDS": "soon"}, "BYOK_EXIT_SECONDS"),
        ({"BYOK_EXIT_SECONDS": "-1"}, "exit_seconds"),
    ],
)
def test_what_cannot_work_is_refused_by_its_name(changes: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        Settings.from_env(REQUIRED | changes)
