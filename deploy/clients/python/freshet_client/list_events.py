"""Server-sent events of a user's lists: from lines to lists, and what a connection made anew says that it has seen."""

import json

from freshet_client.answers import RecommendationList

SILENCE_S = 35.0  # the server says at least every ten seconds that it is there


class ListEvents:
    """Reads lines. `last_id`: of the last event that was whole."""

    def __init__(self) -> None:
        self.last_id = ""
        self._name, self._data = "", ""
        self._id: str | None = None

    def headers(self) -> dict[str, str]:
        """Those of the next connection, where what is half there is forgotten."""
        self._name, self._data, self._id = "", "", None
        return {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.last_id} if self.last_id else {})

    def read(self, line: str) -> list[RecommendationList | None]:
        """Takes a line, and gives what is whole with it: a list, or None for one that was withdrawn."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data += value
        elif name == "id":
            self._id = value
        if line or not self._name:
            return []
        told = json.loads(self._data) if self._name == "list" else None
        self.last_id = self.last_id if self._id is None else self._id
        self._name, self._data, self._id = "", "", None
        return [told]
