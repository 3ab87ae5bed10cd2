"""Keys, plans and models from the command line, as they are typed."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import Any

import pytest

from tests.e2e.running import Stack
from tests.typed import typed


def byok(stack: Stack, *arguments: str, key: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
    done = typed(*arguments, "--data-dir", stack.data_dir, stdin=key)
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def said(stack: Stack, *arguments: str, key: str = "", status: int = 0) -> Any:
    return json.loads(byok(stack, *arguments, "--json", key=key, status=status).stdout)


@pytest.mark.slow
def test_a_key_lives_its_life_from_the_command_line_and_is_never_shown(stack: Stack) -> None:
    org_id = stack.new_organization()
    assert said(stack, "plan", "set", org_id, "pro")["plan"] == "pro"
    assert [period["plan"] for period in said(stack, "plan", "get", org_id)["plans"]] == ["pro"]
    assert f"{org_id} is on pro." in byok(stack, "plan", "get", org_id).stdout
    assert "invalid_request" in byok(stack, "plan", "set", org_id, "gold", status=1).stderr

    secrets = [f"sk-made-up-{uuid.uuid4().hex}" for _ in range(2)]
    shown = []
    adding = ("credentials", "add", "--scope", "personal", "--id", "ada", "--provider", "xai", "--org", org_id)
    assert "standard input" in byok(stack, *adding, status=2).stderr
    added = said(stack, *adding, "--label", "mine", key=f"  {secrets[0]}\n")
    assert (added["status"], added["hint"], added["label"]) == ("active", f"…{secrets[0][-4:]}", "mine")
    refused = byok(stack, *adding, key=secrets[1], status=1)
    assert "409 credential_exists" in refused.stderr
    shown += [json.dumps(added), refused.stderr, refused.stdout]

    credential_id = added["credential_id"]
    assert said(stack, "credentials", "disable", credential_id)["status"] == "disabled"
    assert said(stack, "credentials", "enable", credential_id)["status"] == "active"
    rotated = said(stack, "credentials", "rotate", credential_id, key=secrets[1])
    assert rotated["hint"] == f"…{secrets[1][-4:]}"
    assert said(stack, "credentials", "undo", credential_id)["hint"] == added["hint"]
    assert said(stack, "credentials", "verify", credential_id)["result"] == "unknown"
    one = byok(stack, "credentials", "show", credential_id).stdout
    assert "personal ada" in one
    listed = byok(stack, "credentials", "list", "--org", org_id).stdout
    assert credential_id in listed.replace("\n", "")
    byok(stack, "credentials", "delete", credential_id, status=1)
    byok(stack, "credentials", "delete", credential_id, "--yes")
    lines = byok(stack, "credentials", "list", "--org", org_id, "--status", "deleted", "--json").stdout.splitlines()
    assert [json.loads(line)["credential_id"] for line in lines] == [credential_id]
    byok(stack, "credentials", "show", str(uuid.uuid4()), status=1)
    shown += [one, listed, *lines, json.dumps(rotated)]
    assert not [secret for secret in secrets if any(secret in text for text in shown)]


@pytest.mark.slow
def test_models_are_listed_and_get_other_names(stack: Stack) -> None:
    found = said(stack, "models", "list", "sonnet-4-6", "--provider", "anthropic")
    assert [model["model"] for model in found["models"]] == ["claude-sonnet-4-6"]
    name = f"sonnet={uuid.uuid4().hex}"
    assert said(stack, "models", "alias", "anthropic", f"{name}=claude-sonnet-4-6")["added"] == [name]
    assert "1 were known" in byok(stack, "models", "alias", "anthropic", f"{name}=claude-sonnet-4-6").stdout
    assert "alias_exists" in byok(stack, "models", "alias", "anthropic", f"{name}=claude-opus-4-6", status=1).stderr
    byok(stack, "models", "alias", "anthropic", "nonsense", status=2)
    shown = " ".join(byok(stack, "models", "list", name).stdout.split())
    assert "1 of 138 models by rate card 2026-11-20" in shown
    assert said(stack, "models", "list", "no-such-model", status=1)["models"] == []


def test_a_quote_takes_units_and_conditions(stack: Stack) -> None:
    org_id = stack.new_organization("free")
    asked = ("quote", "--org", org_id, "--user", "ada", "--provider", "anthropic", "--model", "claude-sonnet-4-6")
    units = ("--usage", "input=1000000", "--usage", "cache_read=400000", "--condition", "processing=batch")
    # 600,000 × 1.5 + 400,000 × 0.15 USD per million is 0.96 USD.
    assert said(stack, *asked, *units)["token_usage"]["list_mc"] == 192_000_000
    text = " ".join(byok(stack, *asked, *units).stdout.split())
    assert "600,000 input × 1.5 USD per 1,000,000" in text
    assert "unpriced_condition" in byok(stack, *asked, "--usage", "input=1", "--condition", "a=b", status=1).stderr
    byok(stack, *asked, "--usage", "input=many", status=2)
    byok(stack, *asked, "--condition", "batch", status=2)
