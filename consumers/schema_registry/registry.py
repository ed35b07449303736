"""A schema registry of Confluent's API: the schema of a value by its id, the value by that schema."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from consumers.dead_letter import Reason
from consumers.decode_fields import Refused
from consumers.errors import RegistryUnavailable, SettingRefused
from consumers.schema_registry.avro import avro_reader
from consumers.schema_registry.json_schema import json_reader
from consumers.schema_registry.protobuf import protobuf_reader

FRAME_BYTES = 5  # a zero and the id, 4 bytes, most significant first
MAX_SCHEMAS = 1_000
UNKNOWN_FOR_S = 10.0
NO_SUCH_SCHEMA = (40403, 40401, 40402)  # the registry's own codes; a 404 of anybody else says nothing of the schema
AWAY_FOR_S = 5.0
DEFAULTS: Mapping[str, Any] = {"timeout": 3, "max.retries": 0}  # whoever waits for it tries again

Reader = Callable[[bytes], Any]
"""From the bytes behind the frame to what JSON would say: objects, lists, texts, numbers. They may raise anything."""
_MAKERS: dict[str, Callable[[str, Mapping[str, str]], Reader]] = {
    "AVRO": avro_reader,
    "PROTOBUF": protobuf_reader,
    "JSON": json_reader,
}


class SchemaRegistry:
    """Decodes framed values; a schema is asked for once.

    What the registry does not know is refused, and asked for again after UNKNOWN_FOR_S seconds. While it cannot be
    reached, or refuses, nothing is: that is no fault of the value. It is asked again after AWAY_FOR_S seconds, so that
    those who can go on without the value do.

    Args:
        url: of the registry, or several with commas between.
        config: further keys of confluent-kafka's `SchemaRegistryClient`, such as `basic.auth.user.info`.

    Raises SettingRefused where the client does not take them.
    """

    def __init__(self, url: str, config: Mapping[str, Any] | None = None) -> None:
        self._url = url
        try:
            self._client: Any = SchemaRegistryClient({**DEFAULTS, **(config or {}), "url": url})
        except (ValueError, TypeError, OSError) as error:
            raise SettingRefused(f"the table [schema_registry_config] is refused: {error}") from None
        self._readers = OrderedDict[int, Reader]()
        self._refused: dict[int, tuple[float, Refused]] = {}
        self._away: tuple[float, str] = (-math.inf, "")  # until when it counts as away, and why

    def decode(self, value: bytes) -> Any:
        """What a framed value says, as JSON would. Raises Refused; RegistryUnavailable where the registry is away."""
        if len(value) < FRAME_BYTES:
            raise Refused(Reason.UNKNOWN_SCHEMA, "it begins as a value that a schema registry framed, without an id")
        schema_id = int.from_bytes(value[1:FRAME_BYTES])
        reader = self._reader(schema_id)
        try:
            return reader(value[FRAME_BYTES:])
        except Refused as refused:
            raise Refused(refused.reason, f"by schema {schema_id}: {refused.message}") from None
        except Exception as error:  # hostile bytes get whatever a codec makes of them; a text might quote the user
            raise Refused(Reason.NOT_OF_SCHEMA, f"not of schema {schema_id}: {type(error).__name__}") from None

    def check(self) -> None:
        """Raises RegistryUnavailable where the registry does not answer."""
        self._ask(self._client.get_subjects)

    def _reader(self, schema_id: int) -> Reader:
        reader = self._readers.get(schema_id)
        if reader is not None:
            self._readers.move_to_end(schema_id)
            return reader
        until, refused = self._refused.get(schema_id, (0.0, None))
        if refused is not None and time.monotonic() < until:
            raise refused
        try:
            reader = self._make(schema_id)
        except Refused as error:
            if len(self._refused) >= MAX_SCHEMAS:
                self._refused.clear()
            self._refused[schema_id] = time.monotonic() + UNKNOWN_FOR_S, error
            raise
        self._readers[schema_id] = reader
        if len(self._readers) > MAX_SCHEMAS:
            self._readers.popitem(last=False)
        return reader

    def _make(self, schema_id: int) -> Reader:
        schema = self._ask(partial(self._client.get_schema, schema_id))
        maker = _MAKERS.get(schema.schema_type or "AVRO")
        if maker is None or schema.schema_str is None:
            raise Refused(Reason.UNKNOWN_SCHEMA, f"schema {schema_id} is of the kind {schema.schema_type}")
        references = dict[str, str]()
        self._collect(schema, references)
        try:
            return maker(schema.schema_str, references)
        except Exception as error:
            told = " ".join(str(error).split())[:200]
            raise Refused(Reason.UNKNOWN_SCHEMA, f"schema {schema_id} cannot be read: {told}") from None

    def _collect(self, schema: Schema, found: dict[str, str]) -> None:
        """The schemas that one refers to, by name, those first that others refer to."""
        for reference in schema.references or ():
            name = str(reference.name)
            if name in found:
                continue
            version = self._ask(partial(self._client.get_version, reference.subject, reference.version))
            self._collect(version.schema, found)
            found[name] = version.schema.schema_str

    def _ask(self, question: Callable[[], Any]) -> Any:
        until, told = self._away
        if time.monotonic() < until:
            raise RegistryUnavailable(told)
        try:
            return question()
        except SchemaRegistryError as error:
            if error.error_code in NO_SUCH_SCHEMA:
                raise Refused(Reason.UNKNOWN_SCHEMA, "the schema registry does not know its schema") from None
            told = f"{error.http_status_code}, {error.error_message}"
        except Exception as error:  # its HTTP client's, and what comes of an answer that is none
            told = f"{type(error).__name__}: {error}"
        told = f"the schema registry at {self._url} does not answer: {told[:300]}"
        self._away = time.monotonic() + AWAY_FOR_S, told
        raise RegistryUnavailable(told)
