"""What each of the programs is told by its environment."""

from __future__ import annotations

import os
from pathlib import Path

KAFKA = os.environ["RIVALS_KAFKA"]
"""``host:port`` of the broker."""
DSN = os.environ["RIVALS_DSN"]
PRICES = Path(os.environ["RIVALS_PRICES"])
"""A file, written by ``rivals/prices.py``."""
USAGE = os.environ["RIVALS_USAGE"]
"""The topic."""
