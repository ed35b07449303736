"""Files as well-known sources write them, as data: what their columns are called, and what else there is to know.

A name on the right is a column, a path such as `device.category`, `items[].item_id` (each element of a list is a row),
or several with "|" between them, of which the first that says something counts; what a file does not have of them is
found by its name (`consumers.files.names`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from consumers.files.rows import Kind, TimeUnit


@dataclass(frozen=True)
class Shape:
    """What the files of one kind of a source look like.

    Args:
        fields: our field → theirs.
        event_type: of every row, where a file has no column of it.
        columns: of a file without a line of names, in their order; "_" is a column that nobody reads.
        base: the format of the file; None: it is told by its name and content.
        time_unit: of times that are numbers.
        units: the same, of single columns.
        time_format: of times that are other texts.
        where: a field or a path, and the values of it that rows of this kind have; all other rows are left out.
        without: a field or a path, and the values of it that rows have which are left out.
        needs: rows that have no such field are left out: they are not about an item.
        split: a column whose text is a list, what is between its elements, and what those have at their end that
            count; each of these is a row.
        pairs: a list of objects with a name and a value each, which are fields of the row.
        long: a column of names and one of values, where a row says one thing of an item.
        only: whether nothing but `fields` is read.
        files: names of files that are surely of this kind.
        keys: columns or fields of which such a file, and no other, has all.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    event_type: str | None = None
    columns: tuple[str, ...] = ()
    base: str | None = None
    time_unit: TimeUnit | None = None
    units: Mapping[str, TimeUnit] = field(default_factory=dict)
    time_format: str | None = None
    where: tuple[str, frozenset[str]] | None = None
    without: tuple[str, frozenset[str]] | None = None
    needs: str | None = None
    split: tuple[str, str, str] | None = None
    pairs: str | None = None
    long: tuple[str, str] | None = None
    only: bool = False
    files: tuple[str, ...] = ()
    keys: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True)
class Preset:
    """A source: the shapes of its files, and the weights of its event types."""

    kinds: Mapping[Kind, Shape] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    def shape(self, kind: Kind) -> Shape:
        """The shape of the files of a kind; where nothing is known of them, one that says nothing."""
        return self.kinds.get(kind, PLAIN)


PLAIN = Shape()
_SNOWPLOW_ACTION = "unstruct_event_com_snowplowanalytics_snowplow_ecommerce_snowplow_ecommerce_action_1"

PRESETS: dict[str, Preset] = {
    "personalize": Preset(
        {
            "interactions": Shape(
                {"user_id": "USER_ID", "item_id": "ITEM_ID", "event_type": "EVENT_TYPE", "value": "EVENT_VALUE"},
                time_unit="s",
            ),
            "items": Shape(
                {
                    "item_id": "ITEM_ID", "title": "TITLE|PRODUCT_NAME|NAME", "timestamp": "CREATION_TIMESTAMP",
                    "categories": "GENRES|GENRE|CATEGORIES|CATEGORY|CATEGORY_L1",
                },
                time_unit="s",
            ),
            "users": Shape({"user_id": "USER_ID"}, time_unit="s"),
        },
    ),
    "gorse": Preset(
        {
            "interactions": Shape(
                keys=(
                    frozenset({"FeedbackType", "UserId", "ItemId"}), frozenset({"feedback_type", "user_id", "item_id"}),
                ),
            ),
            "items": Shape(
                keys=(frozenset({"ItemId", "IsHidden"}), frozenset({"item_id", "is_hidden"})),
            ),
        },
    ),
    "metarank": Preset(
        {
            "interactions": Shape(
                {
                    "user_id": "user", "item_id": "item", "event_type": "type", "session_id": "session",
                    "event_id": "id",
                },
                base="jsonl", time_unit="ms", where=("event", frozenset({"interaction"})), only=True,
                keys=(frozenset({"event", "id", "timestamp", "user", "fields"}),),
            ),
            "items": Shape(
                {"item_id": "item"}, base="jsonl", time_unit="ms", where=("event", frozenset({"item"})),
                pairs="fields", keys=(frozenset({"event", "id", "timestamp", "item", "fields"}),),
            ),
            "users": Shape(
                {"user_id": "user"}, base="jsonl", time_unit="ms", where=("event", frozenset({"user"})),
                pairs="fields",
            ),
        },
        {"click": 1, "like": 2, "cart": 3, "purchase": 5},
    ),
    "recombee": Preset(
        {
            "interactions": Shape({"user_id": "userId", "item_id": "itemId"}, time_unit="s"),
            "items": Shape({"item_id": "itemId"}, time_unit="s"),
            "users": Shape({"user_id": "userId"}, time_unit="s"),
        },
    ),
    "retailrocket": Preset(
        {
            "interactions": Shape(
                {"user_id": "visitorid", "item_id": "itemid", "event_type": "event"},
                keys=(frozenset({"visitorid", "itemid", "event", "transactionid"}),),
            ),
            "items": Shape(
                {"item_id": "itemid", "categories": "categoryid"}, long=("property", "value"),
                keys=(frozenset({"itemid", "property", "value"}),),
            ),
        },
        {"view": 1, "addtocart": 3, "transaction": 5},
    ),
    "amazon": Preset(
        {
            "interactions": Shape(
                {
                    "user_id": "reviewerID|user_id", "item_id": "parent_asin|asin", "value": "overall|rating",
                    "timestamp": "unixReviewTime|timestamp|sort_timestamp",
                },
                units={"unixReviewTime": "s"},
                keys=(frozenset({"reviewerID", "asin"}), frozenset({"user_id", "parent_asin"})),
            ),
            "items": Shape(
                {"item_id": "parent_asin|asin", "categories": "categories|category|main_category"},
                keys=(frozenset({"asin", "title"}), frozenset({"parent_asin", "title"})),
            ),
        },
    ),
    "otto": Preset(
        {
            "interactions": Shape(
                {
                    "user_id": "session", "item_id": "events[].aid|aid", "event_type": "events[].type|type",
                    "timestamp": "events[].ts|ts",
                },
                keys=(frozenset({"session", "events"}),),
            ),
        },
        {"clicks": 1, "carts": 3, "orders": 5},
    ),
    "mind": Preset(
        {
            "interactions": Shape(
                {"user_id": "user_id", "item_id": "impressions", "timestamp": "time"}, event_type="click",
                columns=("impression_id", "user_id", "time", "_", "impressions"), base="csv",
                time_format="%m/%d/%Y %I:%M:%S %p", split=("impressions", " ", "-1"), files=("behaviors.tsv",),
                only=True,
            ),
            "items": Shape(
                {"item_id": "item_id", "categories": "category"},
                columns=("item_id", "category", "subcategory", "title", "abstract", "url", "_", "_"), base="csv",
                files=("news.tsv",),
            ),
        },
    ),
    "taobao": Preset(
        {
            "interactions": Shape(
                columns=("user_id", "item_id", "category_id", "event_type", "timestamp"), base="csv", time_unit="s",
                files=("UserBehavior.csv",),
            ),
        },
        {"pv": 1, "fav": 2, "cart": 3, "buy": 5},
    ),
    "ga4": Preset(
        {
            "interactions": Shape(
                {
                    "user_id": "user_id|user_pseudo_id", "item_id": "items[].item_id|item_id",
                    "event_type": "event_name", "timestamp": "event_timestamp",
                    "device": "device.category|device_category", "os": "device.operating_system|operating_system",
                    "country": "geo.country|country",
                },
                time_unit="us", needs="item_id", only=True,
                without=("event_name", frozenset({"view_item_list", "view_promotion", "remove_from_cart", "refund"})),
                keys=(frozenset({"event_name", "event_timestamp", "user_pseudo_id"}),),
            ),
        },
        {"view_item": 1, "select_item": 1, "add_to_wishlist": 2, "add_to_cart": 3, "begin_checkout": 3, "purchase": 5},
    ),
    "segment": Preset(
        {
            "interactions": Shape(
                {
                    "user_id": "userId|anonymousId", "event_type": "event", "event_id": "messageId",
                    "item_id": "properties.products[].product_id|properties.product_id|properties.sku",
                    "timestamp": "timestamp|originalTimestamp|sentAt|receivedAt",
                    "device": "context.device.type", "os": "context.os.name", "country": "context.location.country",
                    "referrer": "context.page.referrer",
                },
                base="jsonl", needs="item_id", only=True,
                where=("type", frozenset({"track"})),
                without=("event", frozenset({
                    "Product List Viewed", "Product List Filtered", "Promotion Viewed", "Product Removed",
                    "Cart Viewed", "Checkout Started", "Order Updated", "Order Refunded", "Order Cancelled",
                })),
                keys=(frozenset({"messageId", "anonymousId", "type"}),),
            ),
            "users": Shape(
                {"user_id": "userId", "attributes": "traits"}, base="jsonl", only=True,
                where=("type", frozenset({"identify"})),
            ),
        },
        {"Product Viewed": 1, "Product Clicked": 1, "Product Added to Wishlist": 2, "Product Added": 3,
         "Order Completed": 5},
    ),
    "snowplow": Preset(  # enriched events in JSON, as its Analytics SDK writes them
        {
            "interactions": Shape(
                {
                    "user_id": "user_id|domain_userid|network_userid", "event_type": f"{_SNOWPLOW_ACTION}.type",
                    "item_id": "contexts_com_snowplowanalytics_snowplow_ecommerce_product_1[].id",
                    "timestamp": "derived_tstamp|collector_tstamp", "event_id": "event_id",
                    "session_id": "domain_sessionid", "device": "dvce_type", "os": "os_family",
                    "country": "geo_country", "referrer": "page_referrer",
                },
                base="jsonl", needs="item_id", only=True,
                where=("event_name", frozenset({"snowplow_ecommerce_action"})),
                without=(f"{_SNOWPLOW_ACTION}.type", frozenset({
                    "list_view", "promo_view", "promo_click", "remove_from_cart", "refund", "trns_error",
                })),
                keys=(frozenset({"event_id", "event_name", "collector_tstamp"}),),
            ),
        },
        {"product_view": 1, "list_click": 1, "add_to_cart": 3, "checkout_step": 3, "transaction": 5},
    ),
}  # fmt: skip


def shape_of(format_: str | None, kind: Kind) -> Shape:
    """What a format that somebody named says of the files of a kind."""
    return PRESETS[format_].shape(kind) if format_ in PRESETS else PLAIN


def recognised(name: str, keys: Iterable[str], kind: Kind) -> str | None:
    """The preset of which a file surely is, by its name or by what its columns or fields are called."""
    have = frozenset(keys)
    for preset, shapes in PRESETS.items():
        shape = shapes.shape(kind)
        if name in shape.files or any(wanted <= have for wanted in shape.keys):
            return preset
    return None
