"""Files as well-known sources write them: each is read with its rows, users and items, at once or with --format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumers.files.interactions import Reading, items_of_file, read_file, users_of_file
from consumers.files.presets import PRESETS

MS = 1_573_463_494_000
EVENTS = [(f"u{n % 4}", f"i{n % 6}", MS + 1000 * n) for n in range(12)]
DAY = "2019-11-11 09:11:{:02d}"


def lines(head: str, row: Callable[[int, str, str, int], str]) -> str:
    return "".join([head + "\n" if head else "", *(row(n, *event) + "\n" for n, event in enumerate(EVENTS))])


def jsons(row: Callable[[int, str, str, int], Any]) -> str:
    return "".join(json.dumps(row(n, *event)) + "\n" for n, event in enumerate(EVENTS))


def segment(n: int, user: str, item: str, t: int) -> dict[str, Any]:
    row: dict[str, Any] = {"messageId": f"m{n}", "type": "track", "anonymousId": user, "userId": None, "timestamp": t,
                           "event": "Product Viewed", "properties": {"product_id": item},
                           "context": {"ip": "192.0.2.1", "device": {"type": "ios"}}}  # fmt: skip
    if n == 0:
        row |= {"userId": user, "event": "Order Completed", "properties": {"products": [{"product_id": item}] * 3}}
    return row


def ga4(n: int, user: str, item: str, t: int) -> dict[str, Any]:
    items = [{"item_id": item}] * (3 if n == 0 else 1)
    return {"event_timestamp": str(t * 1000), "event_name": "view_item", "user_pseudo_id": user, "items": items,
            "device": {"category": "mobile"}, "geo": {"country": "Chile"}}  # fmt: skip


ACTION = "unstruct_event_com_snowplowanalytics_snowplow_ecommerce_snowplow_ecommerce_action_1"
PRODUCTS = "contexts_com_snowplowanalytics_snowplow_ecommerce_product_1"


def snowplow(n: int, user: str, item: str, t: int) -> dict[str, Any]:
    """As the Analytics SDK writes an enriched event; whoever logs in has a `user_id` too."""
    products = [{"id": item, "name": "Tea", "price": 3.5, "category": "drinks"}] * (3 if n == 0 else 1)
    return {"app_id": "shop", "platform": "web", "event": "unstruct", "event_name": "snowplow_ecommerce_action",
            "event_id": f"e{n}", "collector_tstamp": f"{DAY.format(34 + n).replace(' ', 'T')}.000Z", "user_ipaddress": "192.0.2.1",
            "user_id": user if n % 2 else None, "domain_userid": user, "domain_sessionid": f"s-{user}",
            "dvce_type": "Mobile", "geo_country": "CL", PRODUCTS: products,
            ACTION: {"type": "transaction" if n == 0 else "product_view"}}  # fmt: skip


BESIDE_SNOWPLOW = "".join(json.dumps(snowplow(n, "other", "i9", MS) | more) + "\n" for n, more in enumerate((
    {"event_name": "page_view", "event": "page_view"}, {ACTION: {"type": "list_view"}}, {ACTION: {"type": "remove_from_cart"}},
    {PRODUCTS: None}, {ACTION: {"type": "promo_view"}, PRODUCTS: []},
)))  # fmt: skip


def metarank(n: int, user: str, item: str, t: int) -> dict[str, Any]:
    return {"event": "interaction", "id": f"x{n}", "ranking": "r", "timestamp": str(t), "user": user, "session": "s",
            "type": "click", "item": item, "fields": []}  # fmt: skip


BESIDE_METARANK = jsons(lambda n, user, item, t: {"event": "ranking", "id": f"r{n}", "timestamp": str(t), "user": user,
                                                  "session": "s", "fields": [], "items": [{"id": item}]})  # fmt: skip
IMPRESSED = "{}\t{}\t11/11/2019 9:11:{:02d} AM\ti8 i9\ti7-0 {}-1 i8-0"

STREAMS: dict[str, tuple[str, str | None, str, int]] = {  # name → file, --format, content, rows
    "retailrocket": ("events.csv", None, lines(
        "timestamp,visitorid,event,itemid,transactionid", lambda n, u, i, t: f"{t},{u},view,{i},{7 if n > 6 else ''}"
    ), 12),
    "mind": ("behaviors.tsv", None, lines("", lambda n, u, i, t: IMPRESSED.format(n, u, 34 + n, i)), 12),
    "mind under another name": ("b.tsv", "mind", lines("", lambda n, u, i, t: IMPRESSED.format(n, u, 34 + n, i)), 12),
    "taobao": ("UserBehavior.csv", None, lines("", lambda n, u, i, t: f"{u},{i},8,pv,{t // 1000}"), 12),
    "taobao with a header": ("a.csv", "taobao", lines(
        "user_id,item_id,category,behavior_type,timestamp", lambda n, u, i, t: f"{u},{i},8,pv,{t // 1000}"
    ), 12),
    "ga4": ("ga4.json", None, jsons(ga4), 14),
    "ga4, flat": ("ga4.csv", None, lines(
        "event_timestamp,user_pseudo_id,event_name,item_id", lambda n, u, i, t: f"{t * 1000},{u},view_item,{i}"
    ), 12),
    "ga4 of BigQuery": ("ga4.csv", None, lines(
        "event_timestamp,user_pseudo_id,event_name,item_id",
        lambda n, u, i, t: f"{DAY.format(34 + n)}.000000 UTC,{u},view_item,{i}",
    ), 12),
    "segment": ("s.jsonl", None, jsons(segment), 14),
    "snowplow": ("s.jsonl", None, jsons(snowplow) + BESIDE_SNOWPLOW, 14),
    "metarank": ("m.jsonl", None, jsons(metarank) + BESIDE_METARANK, 12),
    "gorse": ("g.csv", None, lines(
        "feedback_type,user_id,item_id,time_stamp", lambda n, u, i, t: f"view,{u},{i},{DAY.format(34 + n)} +0000 UTC"
    ), 12),
    "gorse in JSON": ("g.jsonl", None, jsons(
        lambda n, u, i, t: {"FeedbackType": "view", "UserId": u, "ItemId": i, "Timestamp": f"{DAY.format(34 + n)}Z"}
    ), 12),
    "personalize": ("p.csv", "personalize", lines(
        "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE,EVENT_VALUE", lambda n, u, i, t: f"{u},{i},{t // 1000},view,1.0"
    ), 12),
    "recombee": ("r.csv", "recombee", lines(
        "userId,itemId,timestamp,amount", lambda n, u, i, t: f"{u},{i},{DAY.format(34 + n)}.000Z,1"
    ), 12),
    "recombee in seconds": ("r.csv", "recombee", lines(
        "userId,itemId,timestamp,amount", lambda n, u, i, t: f"{u},{i},{t / 1000},1"
    ), 12),
    "amazon 2014": ("a.json", None, jsons(
        lambda n, u, i, t: {"reviewerID": u, "asin": i, "overall": 5.0, "unixReviewTime": t // 1000, "summary": "x"}
    ), 12),
    "amazon 2023": ("a.jsonl", None, jsons(
        lambda n, u, i, t: {"user_id": u, "asin": "other", "parent_asin": i, "rating": 5.0, "timestamp": t}
    ), 12),
    "otto": ("o.jsonl", None, "".join(json.dumps(
        {"session": int(user[1:]), "events": [{"aid": i, "ts": t, "type": "clicks"} for u, i, t in EVENTS if u == user]}
    ) + "\n" for user in ("u0", "u1", "u2", "u3")), 12),
    "movielens": ("ratings.csv", None, lines(
        "userId,movieId,rating,timestamp", lambda n, u, i, t: f"{u},{i},4.5,{t // 1000}"
    ), 12),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_interactions(name: str, tmp_path: Path) -> None:
    file, format_, content, rows = STREAMS[name]
    (tmp_path / file).write_text(content)
    found = read_file(tmp_path / file, Reading(format=format_))
    assert (len(found.table), found.refusals.counts()) == (rows, {})
    users = {user.removeprefix("u") if name == "otto" else user for user, _, _ in EVENTS}
    assert set(found.table["user_id"].to_pylist()) == users
    assert set(found.table["item_id"].to_pylist()) == {item for _, item, _ in EVENTS}
    assert sorted(set(found.table["timestamp"].to_pylist())) == [t for _, _, t in EVENTS]
    if "event_id" in found.table.column_names:
        assert len(set(found.table["event_id"].to_pylist())) == rows  # an element is no duplicate of its neighbour
    if name.partition(" ")[0].rstrip(",") in PRESETS:
        assert found.preset == name.partition(" ")[0].rstrip(",")


def test_what_is_learned_of_the_context_comes_along(tmp_path: Path) -> None:
    for name in ("ga4", "segment", "snowplow"):
        (tmp_path / "a.jsonl").write_text(STREAMS[name][2])
        table = read_file(tmp_path / "a.jsonl", Reading()).table
        assert set(table["device"].to_pylist()) == {{"ga4": "mobile", "segment": "ios", "snowplow": "Mobile"}[name]}
        assert "ip" not in str(table.to_pylist())


@pytest.mark.parametrize("preset", [name for name in PRESETS if PRESETS[name].shape("interactions").where])
@pytest.mark.parametrize("odd", [None, 3, [], {}, ["track"]])
def test_a_row_whose_kind_is_no_word_is_of_another_kind(preset: str, odd: Any, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in STREAMS[preset][2].splitlines()]
    where = PRESETS[preset].shape("interactions").where
    assert where
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[-1] | {where[0]: odd}]))
    assert len(read_file(tmp_path / "a.jsonl", Reading(format=preset)).table) == STREAMS[preset][3]


def test_types_of_a_source_have_weights_that_the_settings_may_change() -> None:
    for preset in PRESETS.values():
        assert all(weight > 0 for weight in preset.weights.values())
    assert PRESETS["retailrocket"].weights == {"view": 1, "addtocart": 3, "transaction": 5}


NODES: dict[str, tuple[str, str, str | None, str, dict[str, Any]]] = {  # kind, file, --format, content, the first
    "retailrocket": ("items", "p.csv", None, "timestamp,itemid,property,value\n"
        "20,7,categoryid,a\n10,7,categoryid,b\n30,7,790,n10.0\n10,8,790,n1\n",
        {"item_id": "7", "categories": ("a",), "timestamp": 10, "attributes": {"790": "n10.0"}}),
    "mind": ("items", "news.tsv", None, 'N1\tnews\tsub\tThe "Heroes\tAbstract\thttp://x\t[]\t[]\nN2\ta\tb\tc\td\te\t\t\n',
        {"item_id": "N1", "title": 'The "Heroes', "categories": ("news",)}),
    "metarank": ("items", "m.jsonl", None, json.dumps({"event": "item", "id": "x", "timestamp": "5", "item": "i1", "fields":
        [{"name": "title", "value": "T"}, {"name": "genres", "value": ["A b", "C"]}]}) + "\n" + BESIDE_METARANK.split("\n")[0]
        + "\n" + json.dumps({"event": "item", "id": "y", "timestamp": "5", "item": "i2", "fields": []}),
        {"item_id": "i1", "title": "T", "categories": ("A b", "C"), "timestamp": 5}),
    "gorse": ("items", "g.csv", None, 'item_id,is_hidden,categories,time_stamp\n1,true,"A b|C",1970-01-01 00:00:01 +0000 UTC\n'
        "2,false,,\n", {"item_id": "1", "hidden": True, "categories": ("A b", "C"), "timestamp": 1000}),
    "personalize": ("items", "p.csv", "personalize", "ITEM_ID,CREATION_TIMESTAMP,GENRES\n1,5,A|B\n2,6,\n",
        {"item_id": "1", "timestamp": 5000, "categories": ("A", "B")}),
    "amazon": ("items", "a.jsonl", None, '{"parent_asin": "B1", "title": "T", "categories": ["A"], "price": 3}\n'
        '{"parent_asin": "B2", "title": "T"}', {"item_id": "B1", "title": "T", "categories": ("A",)}),
    "movielens": ("items", "movies.csv", None, 'movieId,title,genres\n1,"Heat, The",Crime|Drama\n2,x,(no genres listed)\n',
        {"item_id": "1", "title": "Heat, The", "categories": ("Crime", "Drama")}),
    "movielens users": ("users", "users.dat", None, "1::F::25::1::55117\n2::M::1::1::1\n",
        {"user_id": "1", "attributes": {"gender": "F", "age": "25", "occupation": "1", "zip": "55117"}}),
    "segment users": ("users", "s.jsonl", "segment", json.dumps({"type": "identify", "messageId": "m", "userId": "u",
        "traits": {"plan": "x"}, "context": {"ip": "y"}}) + "\n" + json.dumps({"type": "track", "userId": "v"}) + "\n"
        + json.dumps({"type": "identify", "userId": "w"}), {"user_id": "u", "attributes": {"plan": "x"}}),
    "usual names": ("items", "a.csv", None, "Product ID,product_name,Genre\n1,T,A\n2,,\n",
        {"item_id": "1", "title": "T", "categories": ("A",)}),
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_items_and_users(name: str, tmp_path: Path) -> None:
    kind, file, format_, content, first = NODES[name]
    (tmp_path / file).write_text(content)
    read: Any = items_of_file if kind == "items" else users_of_file
    nodes = read(tmp_path / file, Reading(format=format_))
    assert (len(nodes.known()), nodes.refusals.counts()) == (2, {})
    assert {name: getattr(nodes.known()[0], name) for name in first} == first


def test_elements_of_a_list_in_parquet_are_those_in_json(tmp_path: Path) -> None:
    rows = [{"session": 1, "events": [{"aid": "a", "ts": 5, "type": "clicks"}, {"aid": "b", "ts": 6, "type": "carts"}]},
            {"session": 2, "events": []}, {"session": 3, "events": [{"aid": "a", "ts": 7, "type": "orders"}]}]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = ("user_id", "item_id", "event_type", "timestamp")
    tables = [read_file(tmp_path / file, Reading()).table.select(names) for file in ("a.parquet", "a.jsonl")]
    assert tables[0].to_pylist() == tables[1].to_pylist()
    assert tables[0]["item_id"].to_pylist() == ["a", "b", "a"]
