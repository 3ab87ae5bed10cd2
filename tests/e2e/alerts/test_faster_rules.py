"""The rules that live faster are those of alerts.yml, but for time."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.contract.test_deploy import PROMETHEUS
from tests.e2e.alerts.faster_rules import faster, faster_expression

DOCUMENT = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())


@pytest.mark.parametrize(
    ("expression", "at_sixty"),
    [
        ("increase(a_total[15m])", "increase(a_total[15000ms])"),
        ("a offset 1h > 100", "a offset 60000ms > 100"),
        ("max_over_time(sum(up)[1h:30s])", "max_over_time(sum(up)[60000ms:500ms])"),
        ("max(byok_rerating_oldest_seconds) > 300", "max(byok_rerating_oldest_seconds) > 5"),
        ('max(byok_outbox_oldest_seconds{outbox="x"}) > 30', 'max(byok_outbox_oldest_seconds{outbox="x"}) > 0.5'),
        # A quantile, a name and a label are no durations, and a latency is brought about by what is late.
        ("byok:late5m > 14.4 * 0.01", "byok:late5m > 14.4 * 0.01"),
        (
            'histogram_quantile(0.99, a{le=~"10|10.0", x="5m"}) > 60',
            'histogram_quantile(0.99, a{le=~"10|10.0", x="5m"}) > 60',
        ),
    ],
)
def test_an_expression_looks_back_on_less_and_says_the_same(expression: str, at_sixty: str) -> None:
    assert faster_expression(expression, 60) == at_sixty


def test_every_rule_is_there_with_no_duration_as_it_was() -> None:
    rules = [rule for group in faster(DOCUMENT, 60)["groups"] for rule in group["rules"]]
    before = [rule for group in DOCUMENT["groups"] for rule in group["rules"]]
    assert [rule.get("alert", rule.get("record")) for rule in rules] == [
        rule.get("alert", rule.get("record")) for rule in before
    ]
    for slow, fast in zip(before, rules, strict=True):
        assert fast.keys() == slow.keys()
        assert fast.get("labels") == slow.get("labels")
        durations = re.findall(r"\[[^\]]+\]|offset \w+", fast["expr"])
        assert len(durations) == len(re.findall(r"\[[^\]]+\]|offset \w+", slow["expr"]))
        assert all(re.fullmatch(r"\[\d+ms(:\d+ms)?\]|offset \d+ms", each) for each in durations), fast["expr"]
        assert "for" not in fast or fast["for"].endswith("ms")


def test_of_the_alerts_those_alone_that_are_wanted_and_all_that_is_recorded() -> None:
    rules = [
        rule for group in faster(DOCUMENT, 12, only=frozenset({"DatabaseAway"}))["groups"] for rule in group["rules"]
    ]
    assert [rule["alert"] for rule in rules if "alert" in rule] == ["DatabaseAway"]
    assert [rule["for"] for rule in rules if "alert" in rule] == ["5000ms"]
    assert any("record" in rule for rule in rules)


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ValueError, match="a 7th of 1s"):
        faster_expression("rate(a[1s])", 7)
