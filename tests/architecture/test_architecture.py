"""What holds the shape of the code: who may import what, and what may stand where."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRACKED = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    if name and (ROOT / name).is_file()
]
MODULES = sorted(path for path in TRACKED if path.suffix == ".py" and path.is_relative_to(ROOT / "services"))
SCHEMAS = sorted(path for path in TRACKED if path.suffix == ".py" and path.is_relative_to(ROOT / "schemas"))
SDK = sorted(path for path in TRACKED if path.suffix == ".py" and path.is_relative_to(ROOT / "sdk"))
DOMAIN = sorted(path for path in MODULES if path.is_relative_to(ROOT / "services" / "domain"))


def shown(path):
    return path.relative_to(ROOT).as_posix()


def imports(path):
    """The full names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{shown(path)} imports by a relative name"
            yield node.module


def is_standard(name):
    return name.partition(".")[0] in sys.stdlib_module_names


def test_the_contracts_of_imports_hold():
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert re.search(r"Contracts: \d+ kept, 0 broken", found.stdout), found.stdout


@pytest.mark.parametrize("path", DOMAIN, ids=shown)
def test_the_core_imports_the_standard_library_and_itself_alone(path):
    """But for what its values are made of: docs/adr/0046-the-core-makes-plain-values.md."""
    foreign = [name for name in imports(path) if not is_standard(name) and not name.startswith("services.domain")]
    assert foreign == (["msgspec"] if path.name == "values.py" else [])


@pytest.mark.parametrize("path", DOMAIN, ids=shown)
def test_the_core_reads_no_clock_no_files_and_no_network(path):
    forbidden = {
        "time",
        "os",
        "io",
        "pathlib",
        "socket",
        "subprocess",
        "asyncio",
        "threading",
        "random",
        "logging",
        "sys",
    }
    assert not {name.partition(".")[0] for name in imports(path)} & forbidden
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(utcnow|datetime\.now|date\.today|open|print|input)\(", source)


@pytest.mark.parametrize("path", DOMAIN, ids=shown)
def test_no_float_is_near_money(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        is_literal = isinstance(node, ast.Constant) and isinstance(node.value, float | complex)
        is_name = isinstance(node, ast.Name) and node.id == "float"
        is_true_division = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        if isinstance(node, ast.expr) and (is_literal or is_name or is_true_division):
            pytest.fail(f"{shown(path)}, line {node.lineno}: {ast.unparse(node)} is no integer")


@pytest.mark.parametrize("path", SCHEMAS, ids=shown)
def test_the_wire_contracts_import_pydantic_and_the_standard_library_alone(path):
    allowed = ("schemas", "pydantic")
    foreign = [name for name in imports(path) if not is_standard(name) and name.partition(".")[0] not in allowed]
    assert not foreign


# Who may use the library that holds secrets, and for what.
CRYPTOGRAPHY = {
    "services/key_registry/keyring/envelopes.py": "customers' keys: envelope encryption",
    "services/key_registry/keyring/keks.py": "the keys that wrap their data keys",
    "services/console/sign_in/sealing.py": "the cookies that the console's sessions are sealed in",
    "services/runtime/jwks.py": "the public keys that tokens are checked with",
    "services/local/dev_tokens.py": "the signing key of development tokens, on this machine alone",
}


def test_secrets_are_encrypted_in_one_place():
    found = {shown(path) for path in MODULES if any(name.partition(".")[0] == "cryptography" for name in imports(path))}
    assert found == set(CRYPTOGRAPHY)


def test_metrics_are_made_in_one_place():
    """Elsewhere only registries of them are passed on: what a service shows is in the table of schemas/metrics.py."""
    makers = {
        shown(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("prometheus_client")
        and {alias.name for alias in node.names} != {"CollectorRegistry"}
    }
    assert makers == {"services/runtime/metrics.py"}


@pytest.mark.parametrize("path", SDK, ids=shown)
def test_what_runners_install_needs_one_library(path):
    allowed = {"byok_sdk", "httpx"}
    # Metrics go to prometheus_client where the runner has it; a hook needs the package that it is for.
    optional = {"prometheus_client"} if path.name == "metrics.py" else set()
    if path.parent.name == "hooks":
        optional = {"openai_agents": {"agents"}, "langchain": {"langchain", "langchain_core"}}.get(
            path.stem, {path.stem}
        )
    foreign = [
        name for name in imports(path) if not is_standard(name) and name.partition(".")[0] not in allowed | optional
    ]
    assert not foreign


@pytest.mark.parametrize("path", MODULES + SCHEMAS + SDK, ids=shown)
def test_a_module_is_short_enough_to_be_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_a_file_is_named_after_what_it_does():
    vague = {"utils", "util", "common", "manager", "managers", "helper", "helpers", "misc"}
    assert not [shown(path) for path in TRACKED if {*path.with_suffix("").parts[len(ROOT.parts) :]} & vague]
    assert not [
        shown(path) for path in MODULES + SDK if re.search(r"(^|_)(utils?|common|manager|helpers?)(_|$)", path.stem)
    ]


def test_no_file_knows_the_machine_it_was_written_on():
    machine = re.compile(rb"/(?:work|root|home/[a-z]+|Users/[A-Za-z]+|tmp/v|tmp/bash_jobs)/")
    allowed = {Path(__file__)}
    found = {
        shown(path): match.group().decode()
        for path in TRACKED
        if path not in allowed and (match := machine.search(path.read_bytes()))
    }
    assert not found


def test_test_files_have_names_of_their_own():
    """They are no packages, so of two files with one name pytest would read only one."""
    names = Counter(path.name for path in TRACKED if path.suffix == ".py" and path.is_relative_to(ROOT / "tests"))
    del names["conftest.py"]
    assert [name for name, count in names.items() if count > 1] == []


def test_every_package_says_what_it_is():
    for path in MODULES + SCHEMAS + SDK:
        if path.name == "__init__.py" and "versions" not in path.parts:
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), shown(path)


METERING = [path for path in MODULES if path.is_relative_to(ROOT / "services" / "metering")]


@pytest.mark.parametrize("path", METERING, ids=shown)
def test_no_statement_of_the_metering_waits_half_sent_with_locks_held(path):
    # executemany is a pipeline: a worker stopped in the middle of one held up all others until it was let go.
    called = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert not called & {"executemany", "pipeline"}


def test_what_the_type_of_an_event_decides_is_a_match_over_all_of_them():
    """Of a match mypy says where a new type is not thought of; an if takes it for another one."""
    compared = [
        f"{shown(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        for operand in (node.left, *node.comparators)
        if isinstance(operand, ast.Attribute) and getattr(operand.value, "id", None) == "EventType"
    ]
    assert not compared


def test_the_sdk_imports_no_hook_by_itself():
    inside = [path for path in SDK if path.parent.name != "hooks"]
    assert not [shown(path) for path in inside if any(name.startswith("byok_sdk.hooks") for name in imports(path))]
