"""`/v1/rules`: the rules of each surface, put in force, and what others would do to the lists of some users."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from consumers.errors import LogUnavailable, RecordRefused, UnknownTopic
from streamer.asking.questions import Answer, PreviewQuestion, RulesQuestion
from streamer.errors import RulesRefused
from streamer.lists.rule_records import RulesRecord, check_texts, read_rules, read_rules_to_apply
from streamer.lists.rules import Rules
from streamer.lists.rules_on_log import RulesBySurface, apply_rules, read_all_rules
from streamer.settings import Settings
from streamer.web.answers import ApiError
from streamer.web.bodies import one_object
from streamer.web.current_log import CurrentLog, called_within
from streamer.web.endpoints import Endpoint
from streamer.web.front_answers import AppliedRules, PreviewAnswer, RulesInForce
from streamer.web.log_writer import LogWriter
from streamer.web.parameters import RulesParameters, RulesPreview, RulesRollback, SurfaceParameters, validated
from streamer.web.workers.replies import Replies


class RulesRoutes:
    """Reads and writes the topic of rules, and has lists made by rules that are not in force."""

    def __init__(
        self, log: CurrentLog, settings: Settings, writer: LogWriter, replies: Replies, now_ms: Callable[[], int]
    ) -> None:
        self._log, self._settings, self._writer, self._replies = log, settings, writer, replies
        self._now_ms, self._alone = now_ms, asyncio.Lock()

    def endpoints(self) -> list[Endpoint]:
        """Every path and method."""
        return [
            Endpoint("/v1/rules", "GET", self.get, "read", RulesParameters, answer=RulesInForce),
            Endpoint("/v1/rules", "PUT", self.put, "admin", body=Rules, status=202, answer=AppliedRules),
            Endpoint("/v1/rules", "DELETE", self.delete, "admin", SurfaceParameters, status=202, answer=AppliedRules),
            Endpoint(
                "/v1/rules/rollback",
                "POST",
                self.roll_back,
                "admin",
                body=RulesRollback,
                status=202,
                answer=AppliedRules,
            ),
            Endpoint("/v1/rules/preview", "POST", self.preview, "read", body=RulesPreview, answer=PreviewAnswer),
        ]  # fmt: skip

    async def get(self, request: Request, asked: RulesParameters) -> Response:
        """The rules in force, by surface, each with its version and since when; of one surface those before too."""
        if asked.surface is None:
            records = (await self._read()).records
            return JSONResponse({"rules": [_shown(record) for _, record in sorted(records.items())]})
        record = await self._record_of(asked.surface)
        before = [version.as_json() for version in record.before]
        return JSONResponse({"rules": [_shown(record) | {"before": before}]})

    async def put(self, request: Request) -> Response:
        """Puts rules in force, an object or an array of one a surface; 202 once they are in the log."""
        values = (await self._writer.body(request)).values
        if not values:
            raise ApiError(400, "not-an-object", "send the rules of a surface, or an array of them")
        return await self._apply([_rules(value, n if len(values) > 1 else None) for n, value in enumerate(values)])

    async def delete(self, request: Request, asked: SurfaceParameters) -> Response:
        """Takes the rules of a surface away; they stay among the versions of before. 202 once that is in the log."""
        return await self._apply([(await self._record_of(asked.surface)).removed()])

    async def roll_back(self, request: Request) -> Response:
        """Puts a version of before in force again, the last one where none is named; 202 once it is in the log."""
        asked = validated(RulesRollback, one_object(await self._writer.body(request)), "field")
        record = await self._record_of(asked.surface)
        try:
            rules = record.earlier(asked.version)
        except RulesRefused as refused:
            raise ApiError(404, "no-version", str(refused), field="version") from None
        return await self._apply([rules])

    async def preview(self, request: Request) -> Response:
        """The lists of some users as they are, and as other rules would make them; nothing is changed."""
        value = one_object(await self._writer.body(request))
        rules = _rules(value.get("rules"), None, "rules")
        asked = validated(RulesPreview, value, "field")
        questions = [
            PreviewQuestion(user_id=user, rules=rules, k=asked.k, fields=asked.fields, context=asked.context)
            for user in asked.users
        ]
        warnings = await self._warnings(rules, "rules.")
        answers = await asyncio.gather(*map(self._previewed, questions))
        lists = [msgspec.Raw(answer.body) for answer in answers]
        told = {"surface": rules.surface, "version": rules.version(), "lists": lists, "warnings": warnings}
        return Response(msgspec.json.encode(told), media_type="application/json")

    async def _previewed(self, question: PreviewQuestion) -> Answer:
        try:
            return await self._replies.answer(question)
        except ApiError as error:
            return Answer(error.status, msgspec.json.encode(error.body))

    async def _apply(self, every: Sequence[Rules]) -> Response:
        surfaces = [rules.surface for rules in every]
        if twice := next((one for one in surfaces if surfaces.count(one) > 1), None):
            raise ApiError(400, "repeated-surface", f"surface: {twice!r} is there twice", field="surface")
        warnings = [warning for found in await asyncio.gather(*map(self._warnings, every)) for warning in found]
        async with self._alone:  # what is before the new version is read first
            new = {version.rules.surface for version in await self._logged(self._write, every)}
        applied = [
            {"surface": rules.surface, "version": rules.version(), "changed": rules.surface in new} for rules in every
        ]
        return JSONResponse({"applied": applied, "warnings": warnings}, 202)

    async def _warnings(self, rules: Rules, inside: str = "") -> list[dict[str, str]]:
        """What of the rules can have no effect by what a worker knows now. Raises ApiError 400 where a condition of
        theirs is none for any item."""
        try:
            answer = await self._replies.answer(RulesQuestion(rules=rules))
        except ApiError as error:
            message = f"nobody says whether the items and fields are known: {error}"
            return [{"surface": rules.surface, "code": "unchecked", "message": message}]
        if answer.status == 400:
            why = msgspec.json.decode(answer.body)["error"]
            raise ApiError(400, why["code"], why["message"], field=f"{inside}{why['field']}")
        told: list[dict[str, str]] = msgspec.json.decode(answer.body).get("warnings", [])
        return [{"surface": rules.surface, "code": "no-effect", **one} for one in told]

    async def _record_of(self, surface: str) -> RulesRecord:
        """What the topic says of a surface. Raises ApiError 404 where there are no rules of it."""
        record = (await self._read()).records.get(surface)
        if record is None:
            raise ApiError(404, "no-rules", f"there are no rules of the surface {surface!r}", field="surface")
        return record

    def _write(self, every: Sequence[Rules]) -> Any:
        return apply_rules(self._log.now(), self._settings, every, self._now_ms())

    async def _read(self) -> RulesBySurface:
        told, _ = await self._logged(lambda: read_all_rules(self._log.now(), self._settings))
        return told  # type: ignore[no-any-return]

    async def _logged(self, work: Callable[..., Any], *given: Any) -> Any:
        try:
            return await called_within(self._settings.append_timeout_s, work, *given)
        except (LogUnavailable, RecordRefused, UnknownTopic) as error:
            raise ApiError(503, "log-away", str(error), headers={"Retry-After": "1"}) from None


def _rules(value: Any, index: int | None, inside: str = "") -> Rules:
    """The rules of a body, or of a field of it. Raises ApiError naming the field."""
    if not isinstance(value, dict):
        where = inside or (f"{index}" if index is not None else "")
        raise ApiError(400, "not-an-object", "rules are an object", field=where or None)
    try:
        if not inside:
            return read_rules_to_apply(value)
        rules = read_rules(value)
        check_texts(rules)
        return rules
    except RulesRefused as refused:
        field = ".".join(part for part in (inside, refused.field) if part)
        beside: dict[str, Any] = {} if index is None else {"index": index}
        raise ApiError(400, "bad-rules", str(refused), field=field or None, **beside) from None


def _shown(record: RulesRecord) -> dict[str, Any]:
    return {"surface": record.surface, **record.now.as_json()}
