"""The real streams: how each is replayed and judged, and what is to be reached on it. Only the protocol differs."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from tests.conftest import DATA

MOVIELENS = "movielens-100k"


@dataclass(frozen=True)
class Stream:
    """One row of the table: the flags are those of `freshet replay` and of the judge, word for word."""

    name: str
    folder: str
    flags: tuple[str, ...]
    judge: tuple[str, ...]
    metrics: tuple[str, ...]  # of the judge; what bar and goal are about
    bar: tuple[float, ...]
    goal: tuple[float, ...]
    seeds: int = 1

    def missing(self) -> str | None:
        """Why the stream cannot be replayed here, or None. MovieLens-100k is fetched on first use."""
        if self.folder == MOVIELENS or (DATA / self.folder / "interactions.parquet").is_file():
            return None
        return f"the real stream {self.folder} is not on this machine"

    def file(self, scratch: Path) -> Path:
        """Parquet of the interactions in stable time order; MovieLens-100k is converted into `scratch`."""
        if self.folder != MOVIELENS:
            return DATA / self.folder / "interactions.parquet"
        converted = scratch / f"{MOVIELENS}.parquet"
        if not converted.is_file():
            from consumers.files.interactions import read_interactions
            from streamer.cli.demo_data import movielens_100k

            table = read_interactions(movielens_100k().interactions).drop_columns("reason")
            converted.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, converted)
        return converted

    def flag(self, name: str) -> str | None:
        """The value of a replay flag, "" for a switch, None where the stream does not have it."""
        if name not in self.flags:
            return None
        after = self.flags[self.flags.index(name) + 1 :]
        return after[0] if after and not after[0].startswith("--") else ""


WHOLE = ("--k", "1000", "--learn-until", "0.70")
TGB = ("--after-time-quantile", "0.85", "--tgb")
LISTS, UNSEEN = ("--k", "20"), ("--k", "20", "--exclude-seen")
TOP = ("hr@10", "ndcg@10")

STREAMS = {
    stream.name: stream
    for stream in (
        Stream("wikipedia", "wikipedia", WHOLE, TGB, ("mrr",), (0.838,), (0.845,), seeds=3),
        Stream("wikipedia-stale", "wikipedia", (*WHOLE, "--stale", "200"), TGB, ("mrr",), (0.760,), (0.775,)),
        Stream("movietweetings", "movietweetings", UNSEEN, ("--no-repeat",), TOP, (0.280, 0.176), (0.295, 0.186)),
        Stream("foursquare-nyc", "foursquare-nyc", LISTS, (), TOP, (0.727, 0.543), (0.745, 0.56)),
        Stream("deskdrop", "deskdrop", LISTS, (), TOP, (0.818, 0.640), (0.83, 0.655)),
        Stream("amazon-beauty", "amazon-beauty", UNSEEN, ("--no-repeat",), TOP, (0.207, 0.123), (0.22, 0.13)),
        Stream("globo-news", "globo-news", LISTS, (), TOP, (0.665, 0.425), (0.69, 0.445)),
        Stream(MOVIELENS, MOVIELENS, UNSEEN, ("--no-repeat",), TOP, (0.243, 0.127), (0.255, 0.136)),
    )
}
