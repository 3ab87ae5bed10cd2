"""What is read of the topic's records when they are compared: numbers of changes, whatever else lies there."""

from __future__ import annotations

from services.key_registry.log.comparison import newest_of


def test_only_what_has_a_number_counts() -> None:
    junk = [b"", b"x", b"[]", b"7", b"{}", b'{"seq": "9"}', b'{"seq": true}', b'{"seq": null}']
    assert newest_of([[b'{"seq": 3}', *junk], [], [b'{"seq": 2}']]) == 3
    assert newest_of([junk]) == 0
