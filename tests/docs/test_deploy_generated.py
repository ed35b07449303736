"""What is committed of deploy/ is what `python -m deploy.generate` makes, of tables that are those of the code."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.generate.__main__ import CHART, from_chart, from_tables_and_settings
from deploy.generate.manifests import HelmMissing, chart_digest
from deploy.generate.tables import AlarmRow, MetricRow, alarm_rows, metric_rows
from streamer.settings import Settings
from tests.conftest import missing
from tests.docs.deployed import DEPLOY

README = (DEPLOY / "README.md").read_text()
METRICS, ALARMS = metric_rows(README), alarm_rows(README)
SERIES = {series: metric for metric in METRICS for series in metric.series}
OF_PROMETHEUS = {"instance", "job", "alertname"}


@pytest.mark.parametrize("name", sorted(from_tables_and_settings()))
def test_what_is_committed_is_what_is_made(name: str) -> None:
    made = from_tables_and_settings()[name]
    assert (DEPLOY / name).read_text() == made, "run `python -m deploy.generate`"


def test_the_manifests_are_the_chart() -> None:
    try:
        made = from_chart()
    except HelmMissing as error:
        pytest.skip(str(error))
    assert {name: (DEPLOY / name).read_text() for name in made} == made, "run `python -m deploy.generate`"


def test_the_manifests_are_of_this_chart() -> None:
    """Without Helm too: what they were made of is written in them."""
    stamped = [file for file in (DEPLOY / "kustomize").rglob("*.yaml") if "# of the chart " in file.read_text()]
    assert len(stamped) == 3
    for file in stamped:
        assert f"# of the chart {chart_digest(CHART)}\n" in file.read_text(), "run `python -m deploy.generate`"


def expressions() -> list[tuple[str, str]]:
    """PromQL by the name of its alarm or panel."""
    found = [(alarm.name, alarm.expression) for alarm in ALARMS]
    for file in sorted((DEPLOY / "monitoring" / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            found += [(f"{file.stem}: {panel['title']}", target["expr"]) for target in panel["targets"]]
    return found


def unknown(expression: str) -> list[str]:
    """Names and labels of an expression that no metric has."""
    named = re.findall(r"\b(freshet_\w+)(?:\{(.*?)\})?", expression)
    wrong = [name for name, _ in named if name not in SERIES]
    for name, chosen in named:
        labels = set(re.findall(r"(\w+)\s*[=!]~?\s*\"", chosen))
        wrong += sorted(labels - {*SERIES[name].labels, *OF_PROMETHEUS}) if name in SERIES else []
    known = {label for name, _ in named if name in SERIES for label in SERIES[name].labels} | OF_PROMETHEUS
    for by in re.findall(r"\bby \((.*?)\)", expression):
        wrong += [label for label in re.findall(r"\w+", by) if label not in known]
    return wrong


@pytest.mark.parametrize(("name", "expression"), expressions())
def test_an_alarm_and_a_panel_name_metrics_and_labels_that_exist(name: str, expression: str) -> None:
    assert "freshet_" in expression
    assert unknown(expression) == []


def test_what_does_not_exist_is_found() -> None:
    assert unknown("sum(freshet_lagg)") == ["freshet_lagg"]
    assert unknown("rate(freshet_take_seconds[5m])") == ["freshet_take_seconds"]  # a histogram has no such series
    assert unknown('freshet_stage{stag="ready"}') == ["stag"]
    assert unknown("sum by (reasons) (freshet_dead_letters_total)") == ["reasons"]


def test_every_metric_has_its_panel() -> None:
    for part in ("run", "serve", "feedback"):
        board = json.loads((DEPLOY / "monitoring" / "dashboards" / f"{part}.json").read_text())
        text = [panel["description"] for panel in board["panels"]]
        assert text == [f"{metric.what} ({metric.name})" for metric in METRICS if metric.part == part]
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)


def test_every_alarm_says_what_it_is_and_what_to_do() -> None:
    assert len({alarm.name for alarm in ALARMS}) == len(ALARMS) > 10
    for alarm in ALARMS:
        assert re.fullmatch(r"Freshet[A-Z]\w+", alarm.name)
        assert re.fullmatch(r"\d+[mh]", alarm.lasts)
        assert alarm.severity in ("warning", "critical")
        assert alarm.says.endswith(".")
        assert alarm.mend.endswith(".")


def test_settings_and_metrics_that_an_alarm_names_exist() -> None:
    for alarm in ALARMS:
        for word in re.findall(r"`([a-z]+_[a-z_]+)`", alarm.mend):
            assert word in Settings.model_fields or word in {metric.name for metric in METRICS}


def test_a_metric_is_of_the_kind_that_its_name_and_labels_say() -> None:
    assert MetricRow("run", "freshet_x_total", (), "").kind == "counter"
    assert MetricRow("run", "freshet_x_seconds", ("le",), "").kind == "histogram"
    assert MetricRow("run", "freshet_x", ("stage",), "").kind == "gauge"
    assert AlarmRow(*"abcdef").mend == "f"


def promtool(*arguments: str, folder: Path) -> str:
    if shutil.which("promtool") is None:
        missing("promtool is not installed (Debian's package prometheus)")
    done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_its_configuration_and_rules() -> None:
    said = promtool("check", "config", "prometheus.yml", folder=DEPLOY / "monitoring")
    assert f"{len(ALARMS)} rules found" in said


def test_each_alarm_comes_where_it_is_to_come_and_nowhere_else() -> None:
    promtool("test", "rules", "alerts.test.yaml", folder=DEPLOY / "monitoring")
    [*_, ill, nobody] = yaml.safe_load((DEPLOY / "monitoring" / "alerts.test.yaml").read_text())["tests"]
    samples = [sample["labels"] for test in (ill, nobody) for sample in test["promql_expr_test"][0]["exp_samples"]]
    assert {re.findall(r'alertname="(\w+)"', labels)[0] for labels in samples} == {alarm.name for alarm in ALARMS}


def test_prometheus_takes_what_panels_ask(tmp_path: Path) -> None:
    asked = [text.replace("$__rate_interval", "5m") for name, text in expressions() if ":" in name]
    rules = [{"record": f"panel{n}", "expr": text} for n, text in enumerate(asked)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", "panels.yaml", folder=tmp_path)
