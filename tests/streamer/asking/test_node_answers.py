"""What is known of a user, of an item, and of all."""

from consumers.schemas import Item, User
from streamer.pipeline.epoch import Erasure
from tests.streamer.asking.asked_world import AskedWorld, ids, shop
from tests.worlds import MINUTE_MS


def test_a_user_is_told_as_the_state_knows_them() -> None:
    world = AskedWorld()
    world.take(shop())
    world.say(User("u1", attributes={"age": 30}), Item("i1", title="One"))
    mine = [(item, t) for user, item, t in shop() if user == "u1"]
    body = world.ask("user", user_id="u1")
    assert body["interactions"] == len(mine)
    assert [(last["item_id"], last["timestamp"]) for last in body["last"]] == mine[::-1]
    assert all(last["title"] == ("One" if last["item_id"] == "i1" else None) for last in body["last"])
    assert body["attributes"] == {"age": 30}
    assert len(body["list"]) == 20
    assert world.ask("user", user_id="u2")["attributes"] == {}


def test_a_user_of_whom_only_a_record_is_known_has_no_interactions_and_no_list() -> None:
    world = AskedWorld()
    world.say(User("u1", attributes={"age": 30}))
    body = world.ask("user", user_id="u1")
    assert (body["interactions"], body["last"], body["list"]) == (0, [], None)


def test_nothing_is_told_of_who_is_not_known_or_erased() -> None:
    world = AskedWorld()
    world.take(shop())
    assert world.answer("user", user_id="never")[0] == 404
    world.take([], Erasure("u1", 0))
    for kind, more in (("user", {}), ("surprise", {}), ("explanation", {"item_id": "i1"})):
        status, body = world.answer(kind, user_id="u1", **more)
        assert (status, body["error"]["code"], body["error"]["field"]) == (404, "unknown-user", "user_id")


def test_an_item_is_told_as_the_state_knows_it() -> None:
    world = AskedWorld()
    events = shop()
    world.take(events)
    world.say(Item("i1", title="One", categories=("odd",), attributes={"price": 3}), Item("i2", hidden=True))
    body = world.ask("item", item_id="i1")
    times = [t for _, item, t in events if item == "i1"]
    assert (body["title"], body["attributes"]) == ("One", {"price": 3, "categories": ["odd"]})
    assert (body["interactions"], body["first_seen"], body["last_interaction"]) == (len(times), times[0], times[-1])
    assert body["lists"] == sum("i1" in (world.ask("user", user_id=f"u{n}")["list"] or []) for n in range(30))
    assert body["popularity"].keys() == {"1h", "1d", "7d", "30d", "all"}
    for scale, score in body["popularity"].items():  # what the ranking of the same scale says
        places = world.ask("popular", scale=scale, k=40)["items"]
        assert {place["item_id"]: place["score"] for place in places}["i1"] == score > 0
    assert body["popularity"]["all"] == len(times)
    assert body["status"] == "listed"
    hidden = world.ask("item", item_id="i2")
    assert (hidden["status"], hidden["interactions"] > 0) == ("hidden", True)


def test_an_item_that_nobody_has_taken_is_told_by_its_record() -> None:
    world = AskedWorld()
    world.say(Item("new", title="New", timestamp=1_000))
    body = world.ask("item", item_id="new")
    assert (body["title"], body["interactions"], body["last_interaction"]) == ("New", 0, None)
    assert ids(world.ask("newest")) == ["new"]


def test_the_status_tells_how_far_the_state_is() -> None:
    world = AskedWorld()
    world.take(shop())
    body = world.ask("status")
    assert (body["interactions"], body["users"], body["items"], body["clock"]) == (400, 30, 40, 400 * MINUTE_MS)
    assert (body["epoch"], body["records"], body["pending_repairs"]) == (1, 400, 0)
    assert body["as_of"]["positions"] == {"0": 400}
    assert body["quality"]["hr@10"]["value"] > body["quality"]["hr@10"]["popularity"]
