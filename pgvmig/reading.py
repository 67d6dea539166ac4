"""Search for services: the query is embedded with a version's model and ranked in that version's own view.

Must not know about writing vectors or switching versions; it reads what the catalog says at the moment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, LiteralString, Protocol, Self, TypeAlias

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, scalar_row, tuple_row

from pgvmig import config
from pgvmig import sql as files
from pgvmig.catalog import versions
from pgvmig.catalog.connection import connect, translated
from pgvmig.catalog.session import restore_path
from pgvmig.contract import Contract
from pgvmig.errors import NotFoundError, UsageError
from pgvmig.served import Served
from pgvmig.space import Space, find_space

# Each attempt needs a switch and a retirement since the one before it.
_ATTEMPTS = 3


class Pool(Protocol):
    """What lends connections, such as psycopg_pool.ConnectionPool."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]: ...


class QueryEmbedder(Protocol):
    """The part of an embedder that a search needs."""

    def embed_query(self, text: str) -> Any: ...
    def close(self) -> None: ...


Source: TypeAlias = psycopg.Connection[Any] | Pool | str
Opener: TypeAlias = Callable[[Contract], QueryEmbedder]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was found, the nearest first, and the space in which it was found.

    Each row holds the columns that were asked for and `distance`, as the operator of the contract's metric gives it
    (for `inner_product` that is the negative inner product).
    """

    version: str
    model: str
    model_version: str
    fingerprint: str
    rows: list[dict[str, Any]]


class QueryVectors:
    """Query vectors as text, by contract: one embedder for each, and the last few vectors remembered."""

    def __init__(self, opener: Opener | None, remember: int) -> None:
        self._opener = opener or _open_configured
        self._embedders: dict[Contract, QueryEmbedder] = {}
        self._opening = threading.Lock()
        self.literal = lru_cache(maxsize=remember)(self._literal)

    def _literal(self, contract: Contract, text: str) -> str:
        vector = self._embedder(contract).embed_query(text)
        return "[" + ",".join(repr(float(component)) for component in vector) + "]"

    def _embedder(self, contract: Contract) -> QueryEmbedder:
        with self._opening:
            if contract not in self._embedders:
                self._embedders[contract] = self._opener(contract)
            return self._embedders[contract]

    def close(self) -> None:
        """Close the embedders."""
        with self._opening:
            while self._embedders:
                self._embedders.popitem()[1].close()


class Searcher:
    """Searches one target, `[schema.]table[.slot]`, in the version that is active, or that a key is routed to.

    `source` is a connection, a pool of them, or a DSN. On a connection with an open transaction the search is part of
    that transaction and leaves it as it was, its settings included; else no transaction is open while the provider is
    asked. From several threads at once use a pool. Providers come from the configuration, unless `open_embedder`
    says how to reach them. `remember` is the number of query vectors that are kept.

    What is active is asked anew for every search. Who keeps query vectors beside it can LISTEN pgvmig_switch: the
    payload is the target and the version that is active now (`documents v2`), sent when a switch commits and when the
    active version's search settings change.

    With `report_every` (seconds) it tells the database how many searches each version answered, which `pgvmig status`
    and `pgvmig route` show: one small statement in that time, after a search, never in a transaction of yours, and
    with `flush()` and at the end. That needs EXECUTE on pgvmig.record_outcome and a primary; a report that fails is
    tried again later, and no search fails with it. `report_to` is another place for it than `source`, such as the
    primary's DSN where searches go to a standby.
    """

    def __init__(
        self,
        source: Source,
        target: str,
        *,
        open_embedder: Opener | None = None,
        remember: int = 256,
        report_every: float | None = None,
        report_to: Source | None = None,
    ) -> None:
        self._source = config.dsn(source) if isinstance(source, str) else source
        self._own: psycopg.Connection[Any] | None = None
        self._target = target
        self._slot: tuple[int, str] | None = None
        self._vectors = QueryVectors(open_embedder, remember)
        self._served = Served(report_every)
        self._report_to = config.dsn(report_to) if isinstance(report_to, str) else report_to

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Report what is left to report, close the embedders, and the connection if it is our own."""
        self.flush()
        self._vectors.close()
        if self._own is not None:
            self._own.close()

    def search(
        self,
        text: str,
        *,
        limit: int = 10,
        columns: Sequence[str] | None = None,
        where: sql.Composable | LiteralString | None = None,
        parameters: Mapping[str, Any] | None = None,
        version: str | None = None,
        key: str | None = None,
    ) -> Result:
        """Return the nearest rows of the active version, of the one that `key` is routed to, or of `version`.

        `columns` are the view's, by default the key. `where` is a condition over the view's columns, in the
        developer's own words: values go into `parameters`, as `%(name)s`. Raises NotFoundError without such a version,
        UsageError, ProviderError, DatabaseError.
        """
        if limit < 1:
            raise UsageError(f"limit is {limit}", next_step="ask for 1 row or more")
        if "distance" in (columns or ()):
            raise UsageError("distance is what the result calls the distance", next_step="leave it out of columns=")
        condition = sql.SQL(where) if isinstance(where, str) else where or sql.SQL("true")
        for _ in range(_ATTEMPTS):
            space = self._space(version, key)
            given = {"pgvmig_query": self._vectors.literal(space.contract, text), "pgvmig_limit": limit}
            statement = space.statement(columns or space.key_columns, condition)
            rows = self._rows(space, statement, {**(parameters or {}), **given}, space.settings(limit))
            if rows is not None:
                self._served.count(space.version)
                if self._served.due():
                    self.flush()
                return _result(space, rows)
        raise _gone(space)

    def route(self, key: str | None) -> str:
        """Return the version that serves a key, for a service that searches by itself. None: the active one's.

        Raises NotFoundError without an active version, DatabaseError.
        """
        return self._space(None, key).version

    def flush(self) -> bool:
        """Report now how many searches each version answered; return whether nothing is left to report.

        Never raises for a report that the database does not take. Within a transaction of the caller's nothing is
        reported.
        """
        if self._slot is None or not self._served:
            return not self._served
        if isinstance(self._report_to, str):
            return self._served.report_to(self._report_to, self._slot)
        try:
            with self._connection(self._report_to) as connection:
                return self._served.report(connection, self._slot)
        except Exception as error:  # noqa: BLE001  # the pool's own errors, too
            return self._served.failed(error)

    def _space(self, version: str | None, key: str | None) -> Space:
        with translated(), self._connection() as connection, connection.transaction():
            relation, slot = self._slot = self._slot or _find_slot(connection, self._target)
            space = find_space(connection, relation, slot, version, key)
        if space is None:
            self._slot = None  # the table may be another one under its name by the next search
            raise _no_version(self._target, version)
        if space.view_name is None:
            raise _gone(space)
        return space

    def _rows(
        self, space: Space, statement: sql.Composed, parameters: Mapping[str, Any], settings: Mapping[str, str]
    ) -> list[dict[str, Any]] | None:
        """Return the rows found, None when the version's view is gone."""
        with translated(), self._connection() as connection:
            nested = connection.info.transaction_status != TransactionStatus.IDLE
            try:
                with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
                    restore_path(connection)  # of the service: its condition and its policies rely on it
                    before = _set_local(connection, settings)
                    rows = cursor.execute(statement, parameters).fetchall()
                    if nested:  # a savepoint that is released leaves SET LOCAL to the caller's transaction
                        _set_local(connection, before)
                    # The lock that the search took holds until the transaction's end, so the answer does, too.
                    return rows if rows or _is_there(connection, space) else None
            except psycopg.ProgrammingError:
                if _is_there(connection, space):
                    raise
                return None

    @contextmanager
    def _connection(self, other: psycopg.Connection[Any] | Pool | None = None) -> Iterator[psycopg.Connection[Any]]:
        source = other or self._source
        if isinstance(source, psycopg.Connection):
            yield source
        elif isinstance(source, str):
            if self._own is None or self._own.closed:
                self._own = connect(source, application_name="pgvmig search")
            yield self._own
        else:
            with source.connection() as connection:
                yield connection


def _open_configured(contract: Contract) -> QueryEmbedder:
    from pgvmig.embedders import open_embedder

    return open_embedder(contract)


def _find_slot(connection: psycopg.Connection[Any], target: str) -> tuple[int, str]:
    first = versions.select(connection, target)[0]
    return first.relation, first.slot


def _set_local(connection: psycopg.Connection[Any], settings: Mapping[str, str | None]) -> dict[str, str | None]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            files.query("reading", "set_local"), {"names": list(settings), "values": list(settings.values())}
        )
        return {name: before for name, before, _ in cursor}


def _is_there(connection: psycopg.Connection[Any], space: Space) -> bool:
    with connection.transaction(), connection.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute(space.is_there()).fetchone())


def _result(space: Space, rows: list[dict[str, Any]]) -> Result:
    contract = space.contract
    return Result(
        version=space.version,
        model=contract.model,
        model_version=contract.model_version,
        fingerprint=contract.fingerprint,
        rows=rows,
    )


def _no_version(target: str, version: str | None) -> NotFoundError:
    if version is not None:
        return NotFoundError(f"{target} has no version {version}", next_step="pgvmig status")
    return NotFoundError(
        f"{target} has no active version",
        hazard="Nobody has said yet which version's vectors are complete enough to search",
        next_step=f"pgvmig cutover {target} VERSION, or search version=",
    )


def _gone(space: Space) -> NotFoundError:
    if space.state == "retired":
        return NotFoundError(
            f"{space.label} {space.version} is retired", next_step="leave version= out to search the active one"
        )
    return NotFoundError(
        f"the view of {space.label} {space.version} is gone",
        hazard="A REPEATABLE READ transaction that began before the version was retired still calls it the active one",
        next_step="search again in a new transaction",
    )
