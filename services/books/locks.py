"""The advisory locks of the ledger's database.

Their numbers stay as they are for ever: workers of two releases run beside each other, and must exclude each other.
``services.runtime.migrations`` takes one more, in every database that it migrates.
"""

FENCE = 4_270_002
"""Of ``ledger.fence``: shared by batches, exclusive to whoever raises it."""
RERATER = 4_270_003
"""Whoever works late changes off."""
DEAD_LETTER_RELAY = 4_270_004
"""Whoever copies dead letters to their topic."""
APPEND = 4_270_005
"""Whoever appends to the copy of the registry log: the order of arrival is that of the commits."""
UPKEEP = 4_270_010
"""Whoever merges covered ranges and removes old dead letters."""
SEQUENCER = 4_270_011
"""Whoever gives entries their places in the feed."""
