"""What the programs and those who start them agree on."""

from __future__ import annotations

SCHEMA = "rivals"
"""Where the programs write, in the ledger's database."""
SESSION_SECONDS = 6
"""After so long a consumer that was killed is missed: the least that brokers allow, and the defaults are longer."""
SECONDS = 1.0
"""How old what is known of keys may be, and how often offsets are committed. The defaults are 2.8 to 10 s for offsets
and 60 s or for ever for what was looked up: so each is given better than it has by itself, and all the same."""
