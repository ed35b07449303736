"""A graph store that follows the log: Neo4j 5, through its driver (the extra `neo4j`).

    (:User {id, record})-[:INTERACTED {key, partition, offset, t, type, …}]->(:Item {id, title, record})
    (:User), (:Item)-[:HAS]->(:Context {kind, value})       categories and attributes of the records
    (:Position {topic, partition, next, topic_id})          how much of the log is in it, and of which topics
    (:Session {id, owner, digest})                          whose interactions are its owner's, now and later
    (:Retracted {key}), (:Erased {digest, at_ms})           what must not come back

Positions move in the transaction that writes what lies before them: a sink that dies anywhere goes on where the graph
is, and nothing is in it twice. `key` is the user and the event id, else where the record lies; there is one edge a key.
Older versions left the user out: their edges are found by `older_key`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, LiteralString

import neo4j
from neo4j.exceptions import AuthError, ClientError, DriverError, Neo4jError

from consumers.errors import GraphUnavailable
from consumers.log import Closable, Positions
from consumers.records import TopicPartition

Row = dict[str, Any]
_CONSTRAINTS = (
    "CREATE CONSTRAINT freshet_user IF NOT EXISTS FOR (n:User) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT freshet_item IF NOT EXISTS FOR (n:Item) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT freshet_context IF NOT EXISTS FOR (n:Context) REQUIRE (n.kind, n.value) IS UNIQUE",
    "CREATE CONSTRAINT freshet_position IF NOT EXISTS FOR (n:Position) REQUIRE (n.topic, n.partition) IS UNIQUE",
    "CREATE CONSTRAINT freshet_session IF NOT EXISTS FOR (n:Session) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT freshet_retracted IF NOT EXISTS FOR (n:Retracted) REQUIRE n.key IS UNIQUE",
    "CREATE CONSTRAINT freshet_erased IF NOT EXISTS FOR (n:Erased) REQUIRE n.digest IS UNIQUE",
    "CREATE CONSTRAINT freshet_interacted IF NOT EXISTS FOR ()-[r:INTERACTED]-() REQUIRE r.key IS UNIQUE",
)
_ERASE = (
    "UNWIND $rows AS row MERGE (e:Erased {digest: row.digest}) SET e.at_ms = row.at_ms "
    "WITH row CALL (row) { MATCH (u:User {id: row.id}) DETACH DELETE u } "
    "CALL (row) { MATCH (s:Session {owner: row.id}) "
    "MERGE (e:Erased {digest: s.digest}) SET e.at_ms = row.at_ms DELETE s } "
    "CALL (row) { MATCH (s:Session {id: row.id}) DELETE s }"
)
_MERGE = (  # one after the other: what the one makes a session's owner, the next one reads
    "UNWIND $rows AS row CALL (row) { WITH row "
    "WHERE NOT EXISTS { MATCH (s:Session {id: row.session}) } "
    "AND NOT EXISTS { MATCH (e:Erased) WHERE e.digest IN [row.digest, row.session_digest] AND e.at_ms >= row.at_ms } "
    "OPTIONAL MATCH (of:Session {id: row.user}) WITH row, coalesce(of.owner, row.user) AS owner "
    "WHERE owner <> row.session "
    "CREATE (:Session {id: row.session, owner: owner, digest: row.session_digest}) "
    "WITH row, owner CALL (row, owner) { MATCH (s:Session {owner: row.session}) SET s.owner = owner } "
    "CALL (row, owner) { MATCH (s:User {id: row.session})-[r:INTERACTED]->(i) MERGE (u:User {id: owner}) "
    "WITH u, r, i, properties(r) AS known DELETE r CREATE (u)-[moved:INTERACTED]->(i) SET moved = known } "
    "CALL (row) { MATCH (s:User {id: row.session}) WHERE s.record IS NULL DETACH DELETE s } }"
)
_DELETE = "UNWIND $rows AS row MATCH (i:Item {id: row.id}) DETACH DELETE i"
_DESCRIBE = (
    "UNWIND $rows AS row MERGE (n:%s {id: row.id}) SET n = row.properties "
    "WITH n, row CALL (n) { OPTIONAL MATCH (n)-[has:HAS]->() DELETE has } "
    "UNWIND row.contexts AS context MERGE (c:Context {kind: context[0], value: context[1]}) MERGE (n)-[:HAS]->(c)"
)
_INTERACT = (
    "UNWIND $rows AS row WITH row "
    "WHERE NOT EXISTS { MATCH (:Retracted {key: row.key}) } "
    "AND NOT EXISTS { MATCH ()-[:INTERACTED {key: row.key}]->() } "
    "AND NOT EXISTS { MATCH (:User {id: row.user})-[:INTERACTED {key: row.older_key}]->() } "
    "AND NOT EXISTS { MATCH (e:Erased {digest: row.digest}) WHERE e.at_ms >= row.at_ms } "
    "OPTIONAL MATCH (s:Session {id: row.user}) WITH row, coalesce(s.owner, row.user) AS owner "
    "MERGE (u:User {id: owner}) MERGE (i:Item {id: row.item}) "
    "CREATE (u)-[r:INTERACTED {key: row.key}]->(i) SET r += row.properties"
)
_RETRACT = (
    "UNWIND $rows AS row MERGE (:Retracted {key: row.key}) "
    "WITH row OPTIONAL MATCH (s:Session {id: row.user}) WITH row, coalesce(s.owner, row.user) AS owner "
    "MATCH (:User {id: owner})-[r:INTERACTED]->() "
    "WHERE r.key IN [row.key, row.older_key] OR r.event_id = row.event_id "
    "OR (r.event_id IS NULL AND r.key ENDS WITH ':' + row.event_id) DELETE r"
)
_TIDY = "MATCH (c:Context) WHERE NOT EXISTS { (c)<-[:HAS]-() } DELETE c"
_REACH = (
    "UNWIND $rows AS row MERGE (p:Position {topic: row.topic, partition: row.partition}) "
    "WITH p, row WHERE coalesce(p.next, 0) <= row.next SET p.next = row.next, p.topic_id = row.topic_id"
)
_FORGET: tuple[LiteralString, ...] = (
    "UNWIND $rows AS row MATCH (p:Position {topic: row.topic, partition: row.partition}) DELETE p",
    "UNWIND $rows AS row MATCH ()-[r:INTERACTED {partition: row.partition}]->() "
    "WHERE row.interactions AND r.event_id IS NULL SET r.key = r.key + ' ' + elementId(r)",
    "UNWIND $rows AS row MATCH (n:Retracted) WHERE row.interactions AND n.key =~ row.places DELETE n",
)
_RECORDS: dict[str, LiteralString] = {
    label: f"MATCH (n:{label}) WHERE n.record IS NOT NULL RETURN n.record AS record ORDER BY n.id"
    for label in ("User", "Item")
}
_WRITE: dict[str, LiteralString] = {  # in this order
    "erased": _ERASE,
    "merges": _MERGE,
    "deleted": _DELETE,
    "users": _DESCRIBE % "User",
    "items": _DESCRIBE % "Item",
    "interactions": _INTERACT,
    "retractions": _RETRACT,
}


@dataclass
class GraphBatch:
    """What one transaction writes, in this order; of two records of one node only the newer one is in it."""

    erased: list[Row] = field(default_factory=list)  # id, digest, at_ms
    merges: list[Row] = field(default_factory=list)  # user, session, digest, session_digest, at_ms
    deleted: list[Row] = field(default_factory=list)  # id
    users: list[Row] = field(default_factory=list)  # id, properties, contexts: pairs of kind and value
    items: list[Row] = field(default_factory=list)  # the same
    interactions: list[Row] = field(default_factory=list)  # key, older_key, user, item, digest, at_ms, properties
    retractions: list[Row] = field(default_factory=list)  # key, older_key, user, event_id
    positions: dict[TopicPartition, int] = field(default_factory=dict)  # after it


class GraphStore(Closable):
    """One Neo4j database.

    Args:
        uri: such as bolt://localhost:7687.
        interactions: the name of the topic of interactions.

    Raises GraphUnavailable, here and in every method.
    """

    def __init__(self, uri: str, user: str, password: str | None, interactions: str = "interactions") -> None:
        self._uri, self._interactions = uri, interactions
        auth = (user, password) if password is not None else None
        try:
            self._driver = neo4j.GraphDatabase.driver(
                uri, auth=auth, telemetry_disabled=True, notifications_min_severity="OFF"
            )
        except (DriverError, ValueError) as error:
            raise GraphUnavailable(f"{uri}: {error}") from error
        try:
            self._check()
            for constraint in _CONSTRAINTS:
                self._write([(constraint, [])])
        except GraphUnavailable:
            self._driver.close()
            raise

    def positions(self) -> Positions:
        """The next offset of each partition that has been read."""
        rows = self._read("MATCH (p:Position) RETURN p.topic AS topic, p.partition AS partition, p.next AS next")
        return {TopicPartition(row["topic"], row["partition"]): row["next"] for row in rows}

    def topic_ids(self) -> dict[str, str]:
        """Of the topics that the positions are from, what tells each from one that was made anew."""
        rows = self._read("MATCH (p:Position) WHERE p.topic_id IS NOT NULL RETURN p.topic AS topic, p.topic_id AS id")
        return {row["topic"]: row["id"] for row in rows}

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Forgets how much of these partitions is in it: they are other ones now, to be read from their first record.

        What was in the former ones stays in the graph. Interactions whose key says no more than where their record
        lay get another, else the new one's records would be taken for those.
        """
        rows = [
            {
                "topic": t,
                "partition": p,
                "interactions": t == self._interactions,
                "places": f"(?s)[0-9]+:.*:@{p}-[0-9]+",
            }
            for t, p in partitions
        ]
        self._write([(statement, rows) for statement in _FORGET])

    def write(self, batch: GraphBatch, topic_ids: Mapping[str, str] = MappingProxyType({})) -> None:
        """One transaction: all of it and the positions after it, or nothing. `topic_ids`: see `Log.topic_ids`."""
        statements = [(query, rows) for name, query in _WRITE.items() if (rows := getattr(batch, name))]
        if batch.erased or batch.deleted or batch.users or batch.items:
            statements.append((_TIDY, []))
        reached = [
            {"topic": tp.topic, "partition": tp.partition, "next": end, "topic_id": topic_ids.get(tp.topic)}
            for tp, end in batch.positions.items()
        ]
        self._write([*statements, (_REACH, reached)])

    def interactions(self) -> Iterator[Row]:
        """Every interaction: `user`, `item` and the edge's properties, in the order of time, then of the log."""
        return self._read(
            "MATCH (u:User)-[r:INTERACTED]->(i:Item) RETURN u.id AS user, i.id AS item, r{.*} AS properties "
            "ORDER BY r.t, r.partition, r.offset"
        )

    def records(self, label: Literal["User", "Item"]) -> Iterator[str]:
        """The records, as JSON, of the users or the items that have one."""
        return (row["record"] for row in self._read(_RECORDS[label]))

    def counts(self) -> Mapping[str, int]:
        """How many nodes of each label and edges of each type there are."""
        nodes = self._read("MATCH (n) UNWIND labels(n) AS name RETURN name, count(*) AS count")
        edges = self._read("MATCH ()-[r]->() RETURN type(r) AS name, count(*) AS count")
        return {row["name"]: row["count"] for found in (nodes, edges) for row in found}

    def close(self) -> None:
        self._driver.close()

    def _check(self) -> None:
        """Says at once that nobody answers; a transaction would be tried again for half a minute."""
        try:
            self._driver.verify_connectivity()
        except (Neo4jError, DriverError) as error:
            raise self._unavailable(error) from error

    def _write(self, statements: Sequence[tuple[LiteralString, Sequence[Row]]]) -> None:
        """One transaction; the driver tries again what failed for a passing reason, such as a deadlock."""

        def work(transaction: neo4j.ManagedTransaction) -> None:
            for query, rows in statements:
                transaction.run(query, rows=rows).consume()

        try:
            with self._driver.session() as session:
                session.execute_write(work)
        except (Neo4jError, DriverError) as error:
            raise self._unavailable(error) from error

    def _read(self, query: LiteralString) -> Iterator[Row]:
        """The rows of a query; it runs at once, what it finds is fetched as it is asked for."""
        session = self._driver.session()
        try:
            result = session.run(query)
            first = result.peek()
        except (Neo4jError, DriverError) as error:
            session.close()
            raise self._unavailable(error) from error
        if first is None:
            session.close()
            return iter(())
        return self._rows(session, result)

    def _rows(self, session: neo4j.Session, result: neo4j.Result) -> Iterator[Row]:
        try:
            for row in result:
                yield row.data()
        except (Neo4jError, DriverError) as error:
            raise self._unavailable(error) from error
        finally:
            session.close()

    def _unavailable(self, error: Exception) -> GraphUnavailable:
        if isinstance(error, AuthError):
            return GraphUnavailable(f"{self._uri} refuses the user: set FRESHET_NEO4J_USER and FRESHET_NEO4J_PASSWORD")
        if isinstance(error, ClientError):
            return GraphUnavailable(f"{self._uri} refuses what it was asked: {error.message}")
        return GraphUnavailable(f"{self._uri} cannot be reached: {str(error).splitlines()[0]}")
