"""Which organizations there are: every one that has an entry or a plan. There is no list of them anywhere."""

from __future__ import annotations

from sqlalchemy import Connection

# From one id to the next, by the indexes: what it costs grows with the organizations, not with their entries. The rows
# are made one by one, and no further than the limit.
_NEXT = """
WITH RECURSIVE known (org_id) AS (
  SELECT %(after)s::text
  UNION ALL
  SELECT LEAST(
    (SELECT entry.org_id FROM ledger.entry WHERE entry.org_id > known.org_id ORDER BY entry.org_id LIMIT 1),
    (SELECT substr(change.key, 6) FROM ledger.registry_change change
      WHERE change.key > 'plan:' || known.org_id AND change.key LIKE 'plan:%%' ORDER BY change.key LIMIT 1))
  FROM known WHERE known.org_id IS NOT NULL
)
SELECT org_id FROM known
WHERE org_id > %(after)s AND position(lower(%(search)s) IN lower(org_id)) > 0
LIMIT %(most)s
"""


def organizations_after(connection: Connection, after: str, search: str, *, most: int) -> list[str]:
    """At most so many that follow on an id, in the order of their ids, and have ``search`` in it, in any case."""
    asked = {"after": after, "search": search, "most": most}
    return list(connection.exec_driver_sql(_NEXT, asked).scalars())
