"""The HELP of each metric is a sentence, and the one of the table in deploy/README.md."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from consumers.open_log import OwnedLog
from deploy.generate.tables import metric_rows
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.materialized_view import View
from tests.scenarios.test_worker import send
from tests.streamer.worker.test_prometheus import run
from tests.worlds import checkerboard

README = (Path(__file__).parents[3] / "deploy" / "README.md").read_text()
TABLE = dict(re.findall(r"^\| `(freshet_\w+)` \|[^|]*\| (.*?) \|$", README, re.M))

KINDS = {metric.name: metric.kind for metric in metric_rows(README)}


def check(registry: CollectorRegistry) -> None:
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        name = family.name + "_total" * (family.type == "counter")
        if name.endswith("_created"):  # the library's own
            continue
        assert re.fullmatch(r"[A-Z0-9].*\.", family.documentation), name
        assert TABLE[name].startswith(family.documentation), name
        assert KINDS[name] == family.type, name  # what dashboards are made by


def test_run(log: OwnedLog, settings: Settings) -> None:
    send(log, checkerboard(events=50))
    check(run(log, settings).registry)


def test_serve(log: OwnedLog, settings: Settings) -> None:
    view = View(log, settings)
    view.feed.latencies.note(1)
    view.feed.latencies.note(2)
    check(Gateway(log, settings, view).registry)
