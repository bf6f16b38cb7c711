"""SQLAlchemy engines as this project needs them: SQLite that waits its turn."""

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pipeline.study.db.postgres_reader import PATIENCE

if TYPE_CHECKING:
    from pipeline.study.db.storage import Storage


def make_engine(storage: "Storage") -> sa.Engine:
    """Return an engine for our own SQL on a storage."""
    if storage.sqlite_file is None:
        return sa.create_engine(storage.url, **server_options(storage.url))
    engine = sa.create_engine(storage.url, connect_args={"timeout": storage.patience_s})
    prepare_sqlite(engine, storage)
    return engine


def server_options(url: str) -> dict[str, Any]:
    """Return how a server is spoken to: one that is cut off must not hold up what runs here.

    Without these a lost network leaves the client waiting for a quarter of an hour, and its
    launch could neither judge a trial nor see that it was replaced. The URL may say otherwise.
    """
    made = sa.make_url(url)
    wanted: dict[str, Any] = {}
    if made.get_driver_name() in ("psycopg", "psycopg2"):
        wanted = {k: v for k, v in PATIENCE.items() if k not in made.query}
    # One idle connection a launch; a server counts them.
    return {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 4, "connect_args": wanted}


def prepare_sqlite(engine: sa.Engine, storage: "Storage") -> None:
    """Give every connection of an SQLite engine the write-ahead log and immediate writes."""

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(1000 * storage.patience_s)}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    @sa.event.listens_for(engine, "checkout")
    def _checkout(connection: Any, record: Any, _: Any) -> None:
        if record.info.get("patience_s") != storage.patience_s:
            connection.execute(f"PRAGMA busy_timeout={int(1000 * storage.patience_s)}")
            record.info["patience_s"] = storage.patience_s

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A read that later writes would fail at once where another has written in between.
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    engine.dispose()
