"""What own keys would have saved, by HTTP: against the rating of every single entry with such a key."""

from __future__ import annotations

from collections import defaultdict

import pytest

from services.books.entry_rows import event_of
from services.domain.directory import Directory
from services.domain.rating import rate
from services.domain.usage import EventType
from services.key_registry.rate_cards import packaged_cards
from services.messages.registry_changes import read_change, to_change
from tests.integration.ledger.ledger_seed import at

WHAT_IF = "/v1/organizations/acme/what-if"
