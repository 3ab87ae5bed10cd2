"""The documents are held to the code: links lead somewhere, and the contract names what there is, and nothing else."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from byok_sdk.metrics import METRICS as SDK_METRICS
from fastapi import APIRouter
from fastapi.routing import APIRoute

from schemas.dead_letters import DeadLetterHeaders, Reason
from schemas.metrics import METRICS, Service
from schemas.topics import TOPICS
from schemas.usage_events import EVENT_MODELS
from services.books.tables import VIEW
from services.domain import resolution
from services.key_registry.api import key_routes, model_routes, runner_routes, session_routes
from services.key_registry.api import routes as registry_api
from services.key_registry.rules.refusals import Code
from services.ledger import api as ledger_api
from services.local.dev_tokens import ALL_SCOPES

ROOT = Path(__file__).parents[2]
CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")


def _files(pattern: str) -> list[Path]:
    """What git knows, and what is new: in a checkout there may lie anything else."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", pattern]
    named = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted({ROOT / name for name in named if name and (ROOT / name).is_file()})


PAGES = _files("*.md")


def _shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _anchors(markdown: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def _section(number: int) -> str:
    found = re.search(rf"^## {number}\. .+?(?=^## |\Z)", CONTRACT, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/contract.md has no section {number}"
    return found[0]


def _quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def _first_cells(section: str, heading: str) -> list[str]:
    """What is quoted in the first column of the table that begins with ``heading``, in its order."""
    table = section[section.index(f"| {heading} |") :].partition("\n\n")[0]
    return [name for row in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


# --- links and names --------------------------------------------------------------------------------------------------


def test_there_are_pages() -> None:
    assert {"README.md", "docs/contract.md", "docs/design.md"} <= set(map(_shown, PAGES))


@pytest.mark.parametrize("page", PAGES, ids=_shown)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in _anchors(file.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=_shown)
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = re.findall(
        r"`((?:schemas|services|tests|docs|deploy|benchmarks)/[\w./-]+)`", page.read_text(encoding="utf-8")
    )
    made = "deploy/dev-secrets/"  # by `make dev-secrets`
    assert [name for name in named if not name.startswith(made) and not (ROOT / name).exists()] == []


def test_every_folder_of_the_services_has_a_readme_that_is_short() -> None:
    folders = [ROOT / "schemas", *{file.parent for file in _files("services/*/__init__.py")}]
    of_a_service = [folder for folder in folders if folder.parent in (ROOT, ROOT / "services")]
    assert len(of_a_service) > 7
    for folder in of_a_service:
        assert len((folder / "README.md").read_text(encoding="utf-8").splitlines()) < 40, _shown(folder)


def test_every_decision_is_listed_and_dated() -> None:
    decisions = [page for page in PAGES if re.fullmatch(r"docs/adr/\d{4}-.+\.md", _shown(page))]
    listed = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    for page in decisions:
        assert f"({page.name})" in listed, page.name
        assert re.search(r"\b20\d\d-\d\d-\d\d\b", page.read_text(encoding="utf-8")[:400]), page.name


# --- the contract -----------------------------------------------------------------------------------------------------


def test_the_sections_have_the_numbers_that_others_refer_to() -> None:
    assert re.findall(r"^## (\d+)\. ", CONTRACT, re.MULTILINE) == [str(number) for number in range(1, 11)]


def test_the_topics() -> None:
    rows = re.findall(r"^\| `(byok\.[a-z-]+)` \| (\d+) \|", _section(1), re.MULTILINE)
    assert rows == [(topic.name, str(topic.partitions)) for topic in TOPICS]


def test_the_event_types() -> None:
    assert _first_cells(_section(3), "type") == list(EVENT_MODELS)


def test_the_rules_by_which_a_key_applies() -> None:
    assert {each.value for each in (*resolution.Reason, *resolution.Flag)} <= _quoted(_section(3) + _section(4))


def test_the_columns_of_the_view() -> None:
    assert sorted(_first_cells(_section(6), "column")) == sorted(VIEW)


def test_the_reasons_of_dead_letters_in_their_order() -> None:
    assert re.findall(r"^\d+\. `(\w+)`", _section(7), re.MULTILINE) == [reason.value for reason in Reason]


def test_the_headers_of_dead_letters() -> None:
    headers = {field.alias or name for name, field in DeadLetterHeaders.model_fields.items()}
    assert headers <= _quoted(_section(7))


def _operations(router: APIRouter) -> Iterator[str]:
    for route in router.routes:
        assert isinstance(route, APIRoute)
        for method in route.methods:
            yield f"{method} {route.path.replace(':path', '')}"


def test_the_requests() -> None:
    told = set(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) /\S+)` \|", _section(8), re.MULTILINE))
    assert told == {
        *_operations(registry_api.router),
        *_operations(key_routes.router),
        *_operations(model_routes.router),
        *_operations(runner_routes.router),
        *_operations(session_routes.router),
        *_operations(ledger_api.router),
    }


def test_the_scopes_and_codes() -> None:
    assert _first_cells(_section(8), "scope") == sorted(ALL_SCOPES.split(), key=_section(8).index)
    assert {code.value for code in Code} <= _quoted(_section(8))


def test_the_metrics() -> None:
    table = _section(9)[_section(9).index("| metric |") :].partition("\n\n")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]
    assert sorted(name for name, *_ in rows) == sorted(f"`{metric.name}`" for metric in METRICS)
    by_name = {f"`{metric.name}`": metric for metric in METRICS}
    labels_of_any = {label for metric in METRICS for label in metric.labels}
    told = ""
    for name, kind, labels, shown_by in rows:
        metric = by_name[name]
        told = told if labels == "the same" else labels
        assert kind == metric.kind, name
        assert _quoted(told) & labels_of_any == set(metric.labels), name
        everywhere = set(metric.shown_by) == set(Service) - {Service.VERIFY}
        assert shown_by == "all" if everywhere else _services(shown_by) == set(metric.shown_by), name


def _services(cell: str) -> set[str]:
    return {name.replace(" ", "_") for name in cell.split(", ")}


@pytest.mark.parametrize("page", PAGES, ids=_shown)
def test_every_metric_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"`(byok_[a-z_]*(?:_total|_seconds|_events)|byok_registry_[a-z_]+)\b", page.read_text("utf-8"))
    assert set(named) <= {metric.name for metric in METRICS} | {metric.name for metric in SDK_METRICS}


# --- the design -------------------------------------------------------------------------------------------------------


def test_decisions_and_invariants_have_the_numbers_that_code_refers_to() -> None:
    assert re.findall(r"^### Decision (\d+): ", DESIGN, re.MULTILINE) == [str(number) for number in range(1, 14)]
    assert re.findall(r"^\| (I\d) \|", DESIGN, re.MULTILINE) == [f"I{number}" for number in range(1, 10)]
