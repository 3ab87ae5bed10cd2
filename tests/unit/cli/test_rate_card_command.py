"""`byok rate-card` as it is typed: all that is wrong at once, and what differs on one screen."""

from __future__ import annotations

import copy
import json
import socket

import pytest

from services.key_registry.rate_cards import packaged_cards
from tests.typed import typed

NEWEST = packaged_cards()[-1]
SCREEN_LINES, SCREEN_COLUMNS = 40, 100


@pytest.fixture
def check(tmp_path):
    def run(body, *arguments, command="check", settings=None, since="2027-01-01T00:00:00Z", **besides):
        file = tmp_path / "card.json"
        file.write_text(json.dumps({"card": "new", "effective_from": since, "body": body} | besides))
        return typed("rate-card", command, file, *arguments, settings=settings)

    return run


def of_all_models(body, price):
    """The body with another output price for every model."""
    other = copy.deepcopy(body)
    for lines in other["models"].values():
        for line in lines.values():
            line["usd"]["output"] = price
    return other


def test_a_misspelt_price_is_refused_with_the_name_that_is_meant(check):
    body = copy.deepcopy(NEWEST.body)
    body["models"]["openai"]["gpt-5"]["variantz"] = []
    said = check(body)
    place = "body.models.openai.gpt-5.variantz"
    assert (said.returncode, said.stdout) == (1, "")
    assert f"card.json: {place}: is no place of a rate card; did you mean variants?\n" in said.stderr
    assert said.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["check", "publish"])
def test_nobody_waits_for_a_database_to_hear_what_is_wrong_with_a_card(check, command):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    databases = ("registry", "ledger")
    away = {f"BYOK_{name.upper()}_DSN": f"postgresql://nobody@127.0.0.1:{port}/{name}" for name in databases}
    said = check(NEWEST.body | {"tool_cal": {}}, command=command, settings=away)
    assert said.returncode == 1
    assert "body.tool_cal: is no place of a rate card; did you mean tool_call?" in said.stderr
    assert check(NEWEST.body, command=command, settings=away).returncode == 3


def test_every_error_is_told_at_once_one_a_line_and_no_more_than_a_screenful(check):
    body = of_all_models(NEWEST.body, "1e9") | {"tool_cal": {}}
    body["workflow_run"] = {"credits": 1}
    said = check(body, note="x")
    models = sum(len(lines) for lines in body["models"].values())
    assert said.returncode == 1
    first, *lines = said.stderr.splitlines()
    assert first.endswith(f"card.json cannot be published, for {models + 3} reasons:")
    assert lines[0] == "  body.workflow_run.charge_subflows: is missing"
    assert "usd.output: is not a plain decimal number" in lines[1]
    assert lines[-1] == f"  and {models + 3 - 20} more"
    assert len(lines) == 21

    del body["tool_cal"]
    body["models"] = NEWEST.body["models"]
    assert [line.strip() for line in check(body, note="x").stderr.splitlines()[1:]] == [
        "body.workflow_run.charge_subflows: is missing",
        "note: is no place of a rate card",
    ]


@pytest.mark.parametrize("since", ["2027-01-01T00:00:00Z", "2026-01-01T00:00:00Z"])
def test_what_differs_fits_on_a_screen_and_all_of_it_is_there_to_be_had(check, since):
    body = of_all_models(NEWEST.body, "1000")
    said = check(body, since=since)
    lines = said.stdout.splitlines()
    assert said.returncode == 0
    assert len(lines) <= SCREEN_LINES
    assert max(map(len, lines)) <= SCREEN_COLUMNS
    assert all(any(line.startswith(f"models of {provider}: ") for line in lines) for provider in body["models"])
    assert lines[-2:] == ["With --all every place is listed.", "new can be published."]

    changed = json.loads(check(body, "--json", since=since).stdout)["changes"]
    assert len(changed) >= sum(len(models) for models in body["models"].values())
    assert f": {len(changed):,} changes against" in lines[0]
    listed = check(body, "--all", since=since).stdout.splitlines()
    places = {line.split()[0] for line in listed}
    assert {change["place"] for change in changed} <= places
    assert "With --all every place is listed." not in listed


def test_a_card_of_very_many_providers_fits_on_a_screen_too(check):
    body = copy.deepcopy(NEWEST.body)
    line = body["models"]["openai"]["gpt-5"]
    body["models"] |= {f"provider-{number:03}": {f"model-{number}": line} for number in range(200)}
    lines = check(body).stdout.splitlines()
    assert len(lines) <= SCREEN_LINES
    assert lines[-3] == "and 1,169 changes of 167 more providers"


def test_a_card_that_changes_nothing_says_so(check):
    said = check(NEWEST.body)
    assert said.stdout.splitlines()[0].endswith(": 0 changes against 2026-11-20 (packaged), which it follows")
    assert said.stdout.splitlines()[1:] == ["new can be published."]
