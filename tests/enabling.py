"""Tests that need what not every machine has: they say what is missing and which command brings it."""

from __future__ import annotations

import os

import pytest


def skip_unless(condition: object, reason: str, command: str, *, needs: str = "") -> None:
    """Skip the running test unless ``condition``; ``command`` is what makes it run.

    With BYOK_TEST_REQUIRE_ALL=1 a missing thing is a failure. So it is where BYOK_TEST_REQUIRE, names separated by
    commas, has ``needs``: a machine that has installed something wants to know that it is used.
    """
    if condition:
        return
    message = f"{reason}; to run it: {command}"
    required = os.environ.get("BYOK_TEST_REQUIRE", "").split(",")
    if os.environ.get("BYOK_TEST_REQUIRE_ALL") == "1" or (needs and needs in required):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
