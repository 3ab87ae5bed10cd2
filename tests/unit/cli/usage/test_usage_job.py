"""What is asked for is checked before anything is sent; how a file is read follows from its name and first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.cli.usage.job import Job, options
from services.cli.usage.sources import Lines, Row, Unreadable
from services.runtime.command_failed import CommandFailed


def job(file: Path, **given: Any) -> Job:
    return Job.from_options(
        file=file,
        profile_name=None,
        options=options(**given),
        start=None,
        pace=None,
        batch_events=1,
        limit=None,
        refused_file=None,
        wait_seconds=0,
        dry_run=True,
    )


def rows(this: Job) -> list[Row | Unreadable]:
    with this.open() as file:
        found, _ = this.rows(file, Lines(file), this.selection(), this.identity())
        return list(found)


def written(folder: Path, name: str, content: str) -> Path:
    file = folder / name
    file.write_text(content)
    return file


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"id_from": "row", "maps": ["id=a"]}, "exclude each other"),
        ({"id_from": "row,a"}, "stand alone"),
        ({"unit_from": "a"}, "belong together"),
        ({"unit_from": "a", "count_from": "b"}, "--id-from names the columns"),
        ({"unit_from": "a", "count_from": "b", "id_from": "row"}, "--id-from names the columns"),
        ({"time_format": "soon"}, "--time-format soon: write iso"),
        ({"time_zone": "Nowhere"}, "--time-zone Nowhere"),
        ({"delimiter": ";;"}, "--delimiter: must be one character"),
        ({"event_type": "usage.none.v1"}, "--type usage.none.v1: must be one of"),
        ({"maps": ["nobody=a"]}, "--map nobody=a: there is no field 'nobody'"),
        ({"defaults": ["calls=many"]}, None),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_file_is_opened(given: dict[str, Any], problem: str | None) -> None:
    nowhere = Path("no-such-file.csv")
    if problem is None:
        assert job(nowhere, **given)
        return
    with pytest.raises(CommandFailed, match=problem):
        job(nowhere, **given)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"where": ["c=x"]}, "--where c: the file has no such column; it has a, b"),
        ({"id_from": "a,c"}, "--id-from c: the file has no such column"),
        ({"unit_from": "c", "count_from": "b", "id_from": "a"}, "--unit-from c: the file has no such column"),
        ({"maps": ["calls=c"]}, "--map calls=c: the file has no such column as c; it has a, b"),
        ({"skip_empty": True}, "--skip-empty: no column fills a count"),
        ({"defaults": ["calls=many"]}, "--set or --default calls: must be a whole number"),
    ],
)
def test_what_does_not_fit_the_file_is_refused(tmp_path: Path, given: dict[str, Any], problem: str) -> None:
    with pytest.raises(CommandFailed, match=problem):
        rows(job(written(tmp_path, "t.csv", "a,b\n1,2\n"), **given))


@pytest.mark.parametrize("content", ['{"a": 1}\n{"a": 2}\n', '[{"a": 1},\n {"a": 2}]', ' \n[{"a": 1}, {"a": 2}]'])
def test_the_first_bytes_say_whether_json_is_lines_or_an_array(tmp_path: Path, content: str) -> None:
    assert rows(job(written(tmp_path, "x.json", content))) == [Row(1, {"a": 1}), Row(2, {"a": 2})]


def test_a_path_says_that_it_is_a_document(tmp_path: Path) -> None:
    file = written(tmp_path, "x.json", '{"data": [{"a": 1}], "next": null}')
    assert rows(job(file, rows="data")) == [Row(1, {"next": None, "a": 1})]


def test_a_long_table_is_made_wide_for_what_is_mapped(tmp_path: Path) -> None:
    content = "request,unit,n\nr,in,1\nr,cache,2\nr,output,3\nr,calls,1\n"
    this = job(
        written(tmp_path, "long.csv", content),
        unit_from="unit",
        count_from="n",
        id_from="request",
        ignore_units=["calls"],
        event_type="usage.token_usage.v2",
        maps=["input=in+cache", "cache_read=cache"],
        defaults=["input=0"],
    )
    with this.open() as file:
        found, builder = this.rows(file, Lines(file), this.selection(), this.identity())
        (event,) = (builder.event(row) for row in found if isinstance(row, Row))
    # A unit of ours needs no --map.
    assert event["data"]["usage"] == {"input": 3, "cache_read": 2, "output": 3}
    assert event["id"] == "r"
