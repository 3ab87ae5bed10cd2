"""What the runbook's "Ledger restored" says of totals that fall and rise again, held against Prometheus itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.enabling import skip_unless

_TEST = """
rule_files: [none.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series: [{{series: total, values: "{values}"}}]
    promql_expr_test:
      - {{expr: "increase(total[15m])", eval_time: 16m, exp_samples: [{{labels: "{{}}", value: {counted}}}]}}
"""


@pytest.mark.parametrize(
    ("values", "counted"),
    [
        pytest.param("1000x5 900 950 1000x10", 1000, id="a fall that is seen counts the whole total once more"),
        pytest.param("1000x5 _ _ 1000x10", 0, id="one that is not seen counts nothing"),
        pytest.param("1000x5 _ _ 980x10", 980, id="what ends lower counts whole"),
    ],
)
def test_what_a_fall_of_a_total_counts(values: str, counted: int, tmp_path: Path) -> None:
    program = shutil.which("promtool")
    skip_unless(program, "promtool is not installed", "apt install prometheus", needs="promtool")
    (tmp_path / "none.yml").write_text("groups: []\n")
    test = tmp_path / "test.yml"
    test.write_text(_TEST.format(values=values, counted=counted))
    done = subprocess.run([str(program), "test", "rules", str(test)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
