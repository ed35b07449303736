"""`/v1/experiments`: what is compared, and what came of it so far."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from consumers.errors import LogUnavailable, UnknownTopic
from streamer.experiments.experiment_records import experiments
from streamer.experiments.in_words import as_json
from streamer.experiments.report import report_of
from streamer.settings import Settings
from streamer.web.answers import ApiError
from streamer.web.current_log import CurrentLog
from streamer.web.endpoints import Endpoint
from streamer.web.front_answers import Experiments
from streamer.web.materialized_view import View


class ExperimentRoutes:
    """Reads the topic of experiments, and the results that the view has."""

    def __init__(self, log: CurrentLog, settings: Settings, view: View) -> None:
        self._log, self._settings, self._view = log, settings, view

    def endpoints(self) -> list[Endpoint]:
        """The one endpoint."""
        return [Endpoint("/v1/experiments", "GET", self.get, "read", answer=Experiments)]

    async def get(self, request: Request) -> Response:
        """Each experiment with what it has shown: verdicts, users by arm, differences with intervals, alarms, and
        models beside the live one."""
        return JSONResponse({"experiments": await asyncio.to_thread(self._reports)})

    def _reports(self) -> list[dict[str, Any]]:
        try:
            every = experiments(self._log.now(), self._settings)
        except (LogUnavailable, UnknownTopic) as error:
            raise ApiError(503, "log-away", str(error), headers={"Retry-After": "1"}) from None
        results, challengers = self._view.quality.business.results(), self._view.quality.challengers()
        return [as_json(report_of(record, results, challengers)) for _, record in sorted(every.items())]
