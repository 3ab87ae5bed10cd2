"""The Helm chart is held to the code as docker-compose.yml is: linted, rendered, and what comes out looked at."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from services.books.totals import SHOWN_AS
from tests.contract.settings_variables import variables
from tests.contract.test_deploy import PROMETHEUS, ROOT
from tests.enabling import skip_unless
from tests.patience import PATIENCE_SECONDS

CHART = ROOT / "deploy" / "helm" / "byok"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
PORTS = {name: variables()[f"BYOK_{name.upper()}_PORT"] for name in ("registry", "ledger", "console", "metering")}
# As little as an installation must say, and everything that can be switched on.
LEAST = {"kafka": {"bootstrap": "kafka:9093"}}
ALL = {
    "image": {"digest": f"sha256:{'0' * 64}"},
    "settings": {"BYOK_JWT_JWKS_URL": "https://id.example/jwks", "BYOK_CONNECTIONS_MAX": 1000},
    "kafka": {
        "bootstrap": "kafka-1:9093,kafka-2:9093",
        "caSecret": "kafka-ca",
        "users": {name: {"secret": f"kafka-{name}"} for name in VALUES["kafka"]["users"]},
    },
    "databases": {"caSecret": "postgres-ca"},
    "claims": {"organization": {"claim": "org"}},
    "console": {
        "oidcClientSecret": "console-oidc",
        "settings": {"BYOK_CONSOLE_OIDC_ISSUER": "https://id.example", "BYOK_CONSOLE_OIDC_CLIENT_ID": "console"},
    },
    "metering": {"autoscaling": {"enabled": True}, "settings": {"BYOK_METERING_PAUSE_MIN_EVENTS": 500000}},
    "verify": {"arguments": ["--conservation"], "textfileHostPath": "/var/lib/node_exporter/textfile"},
    "networkPolicy": {"clients": [{"namespaceSelector": {"matchLabels": {"runners": "yes"}}}]},
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
    "podAnnotations": {"team": "billing"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
}
INSTALLATIONS = {"least": LEAST, "all": ALL}


def test_the_defaults_and_the_installations_are_what_the_schema_allows() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    for values in (VALUES, *INSTALLATIONS.values()):
        jsonschema.validate(values, SCHEMA)
    for wrong in ({"kafka": {"bootstrap": 1}}, {"mettering": {}}, {"metering": {"autoscaling": {"maxReplicas": 13}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    assert set(_leaves(VALUES)) == {path for path in _places(SCHEMA) if path != "global"}


def _leaves(values: Any, path: str = "") -> Iterator[str]:
    open_ended = _schema_at(path).get("type") == "object" and "properties" not in _schema_at(path)
    if not isinstance(values, dict) or open_ended:
        yield path
        return
    for name, value in values.items():
        yield from _leaves(value, f"{path}.{name}".strip("."))


def _schema_at(path: str) -> dict[str, Any]:
    at = SCHEMA
    for name in path.split(".") if path else ():
        at = at["properties"][name]
    return at


def _places(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    if "properties" not in schema:
        yield path
        return
    assert schema["additionalProperties"] is False
    for name, its in schema["properties"].items():
        yield from _places(its, f"{path}.{name}".strip("."))


def test_every_variable_in_the_templates_is_a_setting() -> None:
    for template in (CHART / "templates").iterdir():
        assert set(re.findall(r"\bBYOK_[A-Z_]+[A-Z]\b", template.read_text())) <= set(variables()), template.name


def test_the_alerts_of_the_chart_are_those_of_prometheus() -> None:
    assert (CHART / "files" / "alerts.yml").resolve() == PROMETHEUS / "alerts.yml"


def _helm(*arguments: str) -> str:
    program = shutil.which("helm")
    skip_unless(
        program, "helm is not installed", "go install helm.sh/helm/v3/cmd/helm@v3.22.0  # Go 1.26", needs="helm"
    )
    command = [str(program), *arguments, "--kube-version", "1.31.0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=INSTALLATIONS)
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of values."""
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(INSTALLATIONS[request.param]))
    return file


@pytest.fixture
def rendered(installation: Path) -> list[dict[str, Any]]:
    """Every object that the chart makes of it."""
    return _rendered(installation)


def _rendered(file: Path) -> list[dict[str, Any]]:
    text = _helm("template", "prod", str(CHART), "--namespace", "byok", "--values", str(file))
    return [document for document in yaml.safe_load_all(text) if document]


def _pods(objects: list[dict[str, Any]]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Labels and specification of the pods of each component."""
    found = {}
    for each in objects:
        spec = each.get("spec", {}) if each["kind"] != "CronJob" else each["spec"]["jobTemplate"]["spec"]
        if "template" in spec:
            labels = spec["template"]["metadata"]["labels"]
            found[labels["app.kubernetes.io/component"]] = (labels, spec["template"]["spec"])
    return found


def test_helm_finds_nothing_wrong(installation: Path) -> None:
    assert "0 chart(s) failed" in _helm("lint", "--strict", str(CHART), "--values", str(installation))


def test_no_pod_may_do_more_than_it_must(rendered: list[dict[str, Any]]) -> None:
    pods = _pods(rendered)
    assert set(pods) == {"registry", "ledger", "console", "metering", "migrate", "topics", "verify"}
    for _, pod in pods.values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_settings_are_known_and_secrets_come_from_secrets(rendered: list[dict[str, Any]]) -> None:
    for component, (_, pod) in _pods(rendered).items():
        (container,) = pod["containers"]
        names = [each["name"] for each in container["env"]]
        assert len(set(names)) == len(names)
        assert set(names) <= set(variables())
        dsns = {each["name"] for each in container["env"] if "secretKeyRef" in each.get("valueFrom", {})}
        assert dsns == {name for name in names if name.endswith("_DSN")} == _DSNS[component]
        assert ("BYOK_KEK_FILE" in names) is (component == "registry")
        assert ("BYOK_CONSOLE_SESSION_KEY_FILE" in names) is (component == "console")
        # It comes to no broker, and knows no database.
        assert ("BYOK_KAFKA_BOOTSTRAP" in names) is (component != "console")


_DSNS = {
    "registry": {"BYOK_REGISTRY_DSN", "BYOK_LEDGER_DSN"},
    "ledger": {"BYOK_LEDGER_DSN"},
    "console": set(),
    "metering": {"BYOK_LEDGER_DSN"},
    "verify": {"BYOK_LEDGER_DSN"},
    "migrate": {"BYOK_LEDGER_ADMIN_DSN", "BYOK_REGISTRY_ADMIN_DSN"},
    "topics": set(),
}


def test_services_are_probed_and_found_where_they_listen(rendered: list[dict[str, Any]]) -> None:
    pods = _pods(rendered)
    for component, port in PORTS.items():
        (container,) = pods[component][1]["containers"]
        assert container["args"] == [component]
        assert container["ports"] == [{"name": "http", "containerPort": port}]
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
        (service,) = _of(rendered, "Service", component)
        assert service["spec"]["ports"] == [{"name": "http", "port": port, "targetPort": "http"}]


def _of(objects: list[dict[str, Any]], kind: str, component: str | None = None) -> list[dict[str, Any]]:
    label = "app.kubernetes.io/component"
    return [o for o in objects if o["kind"] == kind and component in (None, o["metadata"]["labels"][label])]


def test_whatever_selects_pods_finds_those_of_one_component(rendered: list[dict[str, Any]]) -> None:
    pods = _pods(rendered)
    selecting = 0
    for each in rendered:
        component = each["metadata"]["labels"]["app.kubernetes.io/component"]
        spec = each.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if selector:
            wanted = selector.get("matchLabels", selector)
            finds = {name for name, (labels, _) in pods.items() if wanted.items() <= labels.items()}
            assert finds == {component}, each["metadata"]["name"]
            selecting += 1
    assert selecting >= 15


def test_what_comes_before_an_upgrade_is_done_before_it(rendered: list[dict[str, Any]]) -> None:
    migrate, topics = (_of(rendered, "Job", name)[0] for name in ("migrate", "topics"))
    weights = []
    for job in (migrate, topics):
        annotations = job["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        weights.append(int(annotations["helm.sh/hook-weight"]))
    assert weights == sorted(set(weights))
    (command,) = migrate["spec"]["template"]["spec"]["containers"]
    assert command["args"] == ["db", "upgrade"]
    (command,) = topics["spec"]["template"]["spec"]["containers"]
    assert command["args"] == ["topics", "create", "--replication-factor", "3"]
    # What those jobs need of the chart has to be there earlier.
    for name in ("migrate", "topics"):
        (policy,) = _of(rendered, "NetworkPolicy", name)
        assert int(policy["metadata"]["annotations"]["helm.sh/hook-weight"]) < min(weights)


def test_of_each_service_one_pod_at_a_time_may_be_taken_away(rendered: list[dict[str, Any]]) -> None:
    for component in PORTS:
        (budget,) = _of(rendered, "PodDisruptionBudget", component)
        assert budget["spec"]["maxUnavailable"] == 1


def test_nobody_comes_in_but_who_is_named(rendered: list[dict[str, Any]]) -> None:
    for component in _pods(rendered):
        (policy,) = _of(rendered, "NetworkPolicy", component)
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        ports = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
        assert set(ports) == ({PORTS[component]} if component in PORTS else set())
        assert all(rule["from"] for rule in policy["spec"]["ingress"])


def _all(tmp_path: Path) -> list[dict[str, Any]]:
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump(ALL))
    return _rendered(file)


def test_workers_are_as_many_as_the_lag_asks_for(tmp_path: Path) -> None:
    objects = _all(tmp_path)
    (scaler,) = _of(objects, "HorizontalPodAutoscaler")
    (workers,) = _of(objects, "Deployment", "metering")
    assert scaler["spec"]["scaleTargetRef"]["name"] == workers["metadata"]["name"]
    assert "replicas" not in workers["spec"]
    (metric,) = scaler["spec"]["metrics"]
    assert metric["external"]["metric"]["name"] == "byok_consumer_lag_events"
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "2000"}


def test_whoever_takes_tokens_reads_the_same_table_of_claims(tmp_path: Path) -> None:
    objects = _all(tmp_path)
    (table,) = _of(objects, "ConfigMap")
    assert json.loads(table["data"]["claims.json"]) == ALL["claims"]
    reading = set()
    for component, (_, pod) in _pods(objects).items():
        told = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
        mounted = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
        if "BYOK_JWT_CLAIMS_FILE" in told:
            reading.add(component)
            assert told["BYOK_JWT_CLAIMS_FILE"] == f"{mounted['claims']}/claims.json"
            assert {"name": "claims", "configMap": {"name": table["metadata"]["name"]}} in pod["volumes"]
    assert reading == {"registry", "ledger", "console"}


def test_the_console_comes_to_the_two_apis_and_to_nothing_else_in_the_cluster(tmp_path: Path) -> None:
    objects = _all(tmp_path)
    (policy,) = _of(objects, "NetworkPolicy", "console")
    named = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert named == {53, 443, PORTS["registry"], PORTS["ledger"]}
    for component in ("registry", "ledger"):
        (policy,) = _of(objects, "NetworkPolicy", component)
        callers = [each for rule in policy["spec"]["ingress"] for each in rule["from"]]
        labels = [each["podSelector"]["matchLabels"] for each in callers if "podSelector" in each]
        assert [each["app.kubernetes.io/component"] for each in labels] == ["console"]


def test_prometheus_is_told_the_jobs_of_the_alerts_and_each_total_once(tmp_path: Path) -> None:
    objects = _all(tmp_path)
    monitors = _of(objects, "ServiceMonitor")
    assert {each["spec"]["jobLabel"] for each in monitors} == {"app.kubernetes.io/component"}
    assert {each["metadata"]["labels"]["app.kubernetes.io/component"] for each in monitors} == set(PORTS)
    (ledger,) = _of(objects, "ServiceMonitor", "ledger")
    (drop,) = ledger["spec"]["endpoints"][0]["metricRelabelings"]
    name = _of(objects, "StatefulSet", "ledger")[0]["metadata"]["name"]
    totals = {metric.name for metric in SHOWN_AS.values()}
    dropped = re.compile(drop["regex"])
    assert all(dropped.fullmatch(f"{name}-{pod};{total}") for total in totals for pod in (1, 2, 10))
    assert not any(dropped.fullmatch(f"{name}-0;{total}") for total in totals)
    assert not dropped.fullmatch(f"{name}-1;byok_door_refusals_total")
    (rule,) = _of(objects, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())


def test_what_is_wrong_is_refused_in_words(tmp_path: Path) -> None:
    program = shutil.which("helm")
    skip_unless(
        program, "helm is not installed", "go install helm.sh/helm/v3/cmd/helm@v3.22.0  # Go 1.26", needs="helm"
    )
    for value, word in (
        ("settings.BYOK_ENV=production", "kafka.bootstrap says where Kafka is"),
        ("mettering.replicas=3", "mettering"),
    ):
        command = [str(program), "template", str(CHART), "--kube-version", "1.31.0", "--set", value]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        assert done.returncode != 0
        assert word in done.stderr
