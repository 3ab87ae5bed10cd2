"""The key registry: whose LLM key applies when, the keys themselves (encrypted), plans, and rate cards.

What always holds here:

- Whatever moves a price is one change in one log without gaps, committed together with what it says (``outbox``).
- The topic holds the log in the log's order and in the same bytes (``outbox_relay``).
- A slot (organization, scope, provider) never holds two active keys at once; the database itself refuses it.
- A key in plain text lives in memory for one call. It is in no table, message, log line or answer but the lease's.
- A key that applies and cannot be decrypted is an error, never "no key".
"""
