"""Prices are taken from a map as the registry's log says: its newest card, and the names that were added to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from services.domain.directory import ModelAliases
from services.key_registry.database.sessions import open_engine, sessions_on
from services.key_registry.handlers.cards import publish_rate_card
from services.key_registry.handlers.models import publish_aliases
from services.key_registry.rate_cards import packaged_cards


def test_a_name_that_was_added_to_the_log_finds_its_model_in_the_map(new_database, tmp_path):
    dsn = new_database().dsn
    engine = open_engine(dsn)
    newest = packaged_cards()[-1]
    published = newest._replace(card="ours", body=newest.body | {"usd_per_credit": "0.004"})
    publish_rate_card(sessions_on(engine), published)
    publish_aliases(sessions_on(engine), ModelAliases("openai", {"our-gpt-5": "gpt-5"}))
    engine.dispose()
    model = {"litellm_provider": "openai", "input_cost_per_token": 2.5e-06}
    (tmp_path / "map.json").write_text(json.dumps({"our-gpt-5": model, "gpt-4o-2024-08-06": model}))
    said = subprocess.run(
        [sys.executable, "-m", "services", "rate-card", "import", "--from", "litellm", "map.json", "--card", "next"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("BYOK_")}
        | {"BYOK_REGISTRY_DSN": dsn},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, "looks over what was made of ours." in said.stderr) == (0, True)
    body = json.loads(said.stdout)["body"]
    assert body["usd_per_credit"] == "0.004"
    assert body["models"]["openai"]["gpt-5"]["usd"]["input"] == "2.5"
    # Its other name ships with us, and is not in this log.
    assert body["models"]["openai"]["gpt-4o"] == newest.body["models"]["openai"]["gpt-4o"]
