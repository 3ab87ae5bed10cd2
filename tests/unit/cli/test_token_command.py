"""`byok token`: what it signs, and where it refuses."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import jwt
import pytest

from services.cli.token import lifetime, membership, signing_key_file
from services.local.dev_tokens import create_signing_key
from tests.typed import typed


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    create_signing_key(tmp_path / "secrets")
    return tmp_path


def test_the_token_alone_is_printed_with_the_claims_asked_for(data_dir: Path) -> None:
    options = ["--sub", "ana", "--org", "acme", "--role", "admin", "--team", "red=member", "--team", "a=b=admin"]
    result = typed("token", *options, "--scope", "usage:write", "--expires", "2h", "--data-dir", data_dir)
    assert result.returncode == 0
    assert result.stdout.count("\n") == 1
    claims = jwt.decode(result.stdout.strip(), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 7200
    assert {name: claims[name] for name in ("sub", "org_id", "org_role", "teams", "scope")} == {
        "sub": "ana",
        "org_id": "acme",
        "org_role": "admin",
        "teams": {"red": "member", "a=b": "admin"},
        "scope": "usage:write",
    }


def test_all_stands_for_every_scope(data_dir: Path) -> None:
    result = typed("token", "--scope", "all", "--data-dir", data_dir)
    claims = jwt.decode(result.stdout.strip(), options={"verify_signature": False})
    assert len(claims["scope"].split()) == 6
    assert claims["org_id"] == "*"


@pytest.mark.parametrize(
    "options",
    [["--scope", "everything"], ["--role", "owner"], ["--team", "red"], ["--team", "=admin"], ["--expires", "1 hour"]],
)
def test_what_makes_no_sense_is_refused_without_a_token(data_dir: Path, options: list[str]) -> None:
    result = typed("token", *options, "--data-dir", data_dir)
    assert result.returncode == 2
    assert result.stdout == ""


def test_production_is_refused(data_dir: Path) -> None:
    result = typed("token", "--data-dir", data_dir, settings={"BYOK_ENV": "production"})
    assert result.returncode == 2
    assert result.stdout == ""
    assert "identity provider" in result.stderr


def test_the_setting_comes_before_the_data_directory(tmp_path: Path) -> None:
    named = tmp_path / "key.pem"
    named.touch()
    assert signing_key_file({"BYOK_JWT_SIGNING_KEY_FILE": str(named)}, Path("elsewhere")) == named
    with pytest.raises(ValueError, match="no signing key"):
        signing_key_file({}, tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", timedelta(seconds=90)), ("30m", timedelta(minutes=30)), ("7d", timedelta(days=7))],
)
def test_lifetimes(text: str, expected: timedelta) -> None:
    assert lifetime(text) == expected


@pytest.mark.parametrize("text", ["", "1", "h", "0h", "1.5h", "-1h", "366d", "999999999d"])
def test_what_is_no_lifetime(text: str) -> None:
    with pytest.raises(ValueError, match="--expires"):
        lifetime(text)


def test_no_membership_is_no_claim() -> None:
    assert membership(None, []) == {}
