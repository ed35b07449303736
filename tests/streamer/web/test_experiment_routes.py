"""`GET /v1/experiments`: what is compared, with what it has shown."""

import msgspec
from starlette.testclient import TestClient

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from consumers.schemas import Business, ChallengerQuality
from streamer.experiments.experiment_records import create, read_experiment, shadow, start, stop
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.materialized_view import View
from tests.waiting import until

ARMS = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5, "explore": 0.1}]


def test_each_experiment_has_its_report(log: OwnedLog, settings: Settings) -> None:
    view = View(log, settings)
    view.start()
    client = TestClient(Gateway(log, settings, view).app(), base_url="http://localhost")
    assert client.get("/v1/experiments").json() == {"experiments": []}
    create(log, settings, read_experiment({"name": "price", "arms": ARMS}), 5)
    start(log, settings, "price", 7)
    for arm, clicks in (("a", 100.0), ("b", 300.0)):
        told = Business(
            "ctr", "default", f"price:{arm}", clicks / 1_000, clicks, 1_000.0, 100, 0, (clicks, 1_000, 10_000)
        )
        log.append([NewRecord("quality", f"business/default/price:{arm}/ctr".encode(), msgspec.json.encode(told))])
    until(lambda: len(view.quality.business.results()) == 2)
    assert 'freshet_business{arm="price:b",metric="ctr",surface="default"} 0.3' in client.get("/metrics").text
    [told] = client.get("/v1/experiments").json()["experiments"]
    assert (told["experiment"]["state"], told["experiment"]["started_ms"]) == ("running", 7)
    assert told["experiment"]["arms"][1]["explore"] == 0.1
    assert (told["users"], told["mismatched"]) == ({"a": 100, "b": 100}, False)
    [ctr] = [one for one in told["differences"] if one["metric"] == "ctr"]
    assert (ctr["arm"], round(ctr["difference"], 9), ctr["verdict"]) == ("b", 0.2, "more")
    assert ctr["always_low"] < ctr["low"] < 0.2 < ctr["high"] < ctr["always_high"]
    rules = client.get("/v1/rules").json()["rules"][0]["rules"]
    assert rules["experiment"]["name"] == "price"
    refused = client.put("/v1/rules", json=rules)
    assert (refused.status_code, refused.json()["error"]["field"]) == (400, "experiment")
    view.stop()


def test_a_challenger_stands_beside_the_live_model(log: OwnedLog, settings: Settings) -> None:
    """What was said last: before, lists were longer. What is no figure is passed over."""
    create(log, settings, read_experiment({"name": "price", "arms": [ARMS[0], ARMS[1] | {"model": {}}]}), 5)
    shadow(log, settings, "price", 7)
    view = View(log, settings)
    view.start()
    client = TestClient(Gateway(log, settings, view).app(), base_url="http://localhost")
    for metric, events in (("hr@20", 500), ("hr@10", 6_000)):
        told = ChallengerQuality("price", "b", metric, 0.25, 0.2, 0.01, events, events)
        log.append([NewRecord("quality", f"challenger/price/b/{metric}".encode(), msgspec.json.encode(told))])
    log.append([NewRecord("quality", b"challenger/price/b/hr@10", b"{}")])
    until(lambda: len(view.quality.challengers()) == 2 and view.skipped["quality"] == 1)
    [found] = client.get("/v1/experiments").json()["experiments"]
    assert found["experiment"]["state"] == "shadow"
    assert found["challengers"][0]["error"] == 0.01
    assert found["beside_live"] == [
        "b has hr@10 0.2500, the live model 0.2000, over 6,000 interactions: the difference is +0.0304 to +0.0696, "
        "95 % sure."
    ]
    view.stop()


def test_rules_go_back_to_those_before_whatever_experiments_ran_between(log: OwnedLog, settings: Settings) -> None:
    client = TestClient(Gateway(log, settings, View(log, settings)).app(), base_url="http://localhost")
    for k in (5, 7):
        assert client.put("/v1/rules", json={"k": k}).status_code == 202
    for name in ("price", "colour"):
        create(log, settings, read_experiment({"name": name, "arms": ARMS}), 5)
        start(log, settings, name, 7)
        stop(log, settings, name, 9)
    assert client.post("/v1/rules/rollback", json={"surface": "default"}).json()["applied"][0]["changed"]
    assert client.get("/v1/rules").json()["rules"][0]["rules"]["k"] == 5
    create(log, settings, read_experiment({"name": "shape", "arms": ARMS}), 11)
    start(log, settings, "shape", 13)
    assert client.post("/v1/rules/rollback", json={"surface": "default"}).json()["applied"][0]["changed"]
    [rules] = client.get("/v1/rules").json()["rules"]
    assert (rules["rules"]["k"], rules["rules"]["experiment"]["name"]) == (7, "shape")
