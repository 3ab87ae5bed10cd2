"""The FinOps Foundation's own validator reads a real export by its rules for FOCUS 1.2."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.enabling import skip_unless
from tests.integration.ledger.export_seed import seed_every_kind
from tests.patience import PATIENCE_SECONDS

EXPORT = "/v1/organizations/acme/export"
# What is true of us; without these the validator leaves out the rules for them.
APPLIES = (
    *("BILLING_BASED_ON_PROVISIONED_RESOURCES", "MULTIPLE_PRICING_CATEGORIES", "NEGOTIATED_PRICING"),
    *("PRICING_BILLING_CURRENCY_DIFFERENCES", "PUBLIC_PRICE_LIST", "RESOURCE_TYPE_ASSIGNMENT", "SUB_ACCOUNT"),
    *("TAGGING", "UNIT_PRICING", "USAGE_MEASUREMENT", "VIRTUAL_CURRENCY"),
)
KNOWN = {
    # FOCUS lets a virtual currency be called by any name (Currency Format); the validator looks for ISO 4217 alone.
    "PricingCurrency-C-000-C",
    "PricingCurrency-C-003-M",
    # Not null where a charge is on an invoice; the validator takes that of every charge, and credits are on none.
    "InvoiceId-C-005-C",
}


@pytest.fixture
def validator():
    """The program; it looks for a file of its own beside the folder that it is installed in."""
    program = shutil.which("focus-validator")
    skip_unless(
        program,
        "focus-validator is not installed",
        "Python 3.12 or newer, pip install focus-validator==2.2.1 in an environment of its own, its bin on PATH",
        needs="focus-validator",
    )
    real = Path(program).resolve()
    return real, next((real.parent.parent / "lib").glob("python3*/site-packages"))


def test_nothing_fails_but_what_the_validator_cannot_know(client, books, reader, validator, tmp_path):
    seed_every_kind(books)
    books.place()
    file = tmp_path / "focus.csv"
    file.write_bytes(client.get(EXPORT, params={"format": "focus", "after": 0}, headers=reader).content)
    program, home = validator
    applies = ",".join(f"{name}_SUPPORTED" for name in APPLIES)
    ours = ["--validate-version", "1.2.0.1", "--focus-dataset", "CostAndUsage", "--block-download"]
    command = [program, *ours, "--applicability-criteria", applies, "--data-file", file]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS)
    found = dict(re.findall(r"^\S+ ([A-Za-z]+-[CD]-\d+-[A-Z]): (PASS|FAIL)", done.stdout, re.MULTILINE))
    assert sum(outcome == "PASS" for outcome in found.values()) > 250, done.stdout + done.stderr
    assert {rule for rule, outcome in found.items() if outcome == "FAIL"} == KNOWN, done.stdout
