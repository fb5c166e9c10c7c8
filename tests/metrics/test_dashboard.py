"""The example dashboard of Grafana: its queries are valid, and of metrics that exist."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tieralloc.metrics.families import families

PAGE = Path(__file__).parents[2] / "docs" / "grafana-dashboard.json"
SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


def queries():
    dashboard = json.loads(PAGE.read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [*panels, *(each["definition"] for each in dashboard["templating"]["list"][1:])]


def test_dashboard_queries_metrics_that_exist():
    known = {family.name + end: family for family in families() for end in SUFFIXES[family.kind]}
    used = {name for query in queries() for name in re.findall(r"tieralloc_\w+", query)}
    assert len(used) > 25
    assert used <= known.keys()
    for query in queries():
        for name, selector in re.findall(r"(tieralloc_\w+)\{([^}]*)\}", query):
            labels = set(re.findall(r"(\w+)=", selector))
            assert labels <= {"store", *known[name].labels}


def test_dashboard_queries_are_promql(promtool, tmp_path):
    exprs = [query for query in queries() if not query.startswith("label_values")]
    rules = [
        {"record": f"query:{i}", "expr": expr.replace("$__rate_interval", "5m")}
        for i, expr in enumerate(exprs)
    ]
    path = tmp_path / "rules.json"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    run = subprocess.run(
        [promtool, "check", "rules", path], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert f"{len(rules)} rules found" in run.stdout


@pytest.mark.parametrize("unit", ["ns", "ms", "us", "nanoseconds"])
def test_metrics_have_base_units(unit):
    names = [family.name.split("_") for family in families()]
    assert not [name for name in names if unit in name]
    helps = " ".join(family.help for family in families())
    assert "anosecond" not in helps
