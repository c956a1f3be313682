"""The database that a local server begins with."""

from __future__ import annotations

import importlib.util
import re
import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

from kilroy_engine.server import database as server_database
from kilroy_engine.server.database import seed_database
from kilroy_engine.server.record import ServerPaths

PREFECT = version("prefect")


def paths_for(root: Path, prefect_version: str = PREFECT) -> ServerPaths:
    paths = ServerPaths.of(root, prefect_version)
    paths.home.mkdir(parents=True)
    return paths


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def write_history(database: Path, text: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE history (text)")
        connection.execute("INSERT INTO history VALUES (?)", [text])


def newest_migration() -> str:
    """The one revision of Prefect's SQLite migrations that no other one follows."""
    package = importlib.util.find_spec("prefect")
    assert package is not None
    assert package.origin is not None
    scripts = (Path(package.origin).parent / "server/database/_migrations/versions/sqlite").glob("*.py")
    found = [
        dict(re.findall(r'^(revision|down_revision)(?:: .*)? = "(\w+)"', script.read_text(), re.MULTILINE))
        for script in scripts
    ]
    followed = {entry.get("down_revision") for entry in found}
    (head,) = {entry["revision"] for entry in found if "revision" in entry} - followed
    return head


def test_the_template_is_at_prefects_newest_migration(tmp_path: Path) -> None:
    """The schema is the one that the installed Prefect would build; else the first start migrates, or cannot use it."""
    paths = paths_for(tmp_path)
    seed_database(paths, PREFECT)
    assert rows(paths.database, "SELECT version_num FROM alembic_version") == [(newest_migration(),)]


def test_the_template_holds_block_types_and_no_runs(tmp_path: Path) -> None:
    """Nothing of the machine that built it comes along, and nobody else may read the file."""
    paths = paths_for(tmp_path)
    seed_database(paths, PREFECT)
    assert ("secret",) in rows(paths.database, "SELECT slug FROM block_type")
    for table in ("flow_run", "task_run", "events", "block_document", "configuration"):
        assert rows(paths.database, f"SELECT count(*) FROM {table}") == [(0,)], table
    assert paths.database.stat().st_mode & 0o077 == 0
    assert [entry.name for entry in paths.home.iterdir()] == ["prefect.db"]


def test_an_existing_database_is_never_replaced(tmp_path: Path) -> None:
    """It is the user's history."""
    paths = paths_for(tmp_path)
    write_history(paths.database, "mine")
    seed_database(paths, PREFECT)
    assert rows(paths.database, "SELECT text FROM history") == [("mine",)]


def test_the_history_of_the_newest_older_version_is_carried_over(tmp_path: Path) -> None:
    """A suspended run is found after an upgrade of Prefect. Versions compare as numbers; a newer one's schema is unknown."""
    for older in ("3.7.9", "3.8.2", "3.8.10", "3.9.0", "notes"):
        write_history(paths_for(tmp_path, older).database, older)
    paths = paths_for(tmp_path, "3.8.11")
    with closing(sqlite3.connect(paths_in_use := ServerPaths.of(tmp_path, "3.8.10").database)) as writing:
        writing.execute("INSERT INTO history VALUES ('not committed')")
        seed_database(paths, "3.8.11")
    assert rows(paths.database, "SELECT text FROM history") == [("3.8.10",)]
    assert rows(paths_in_use, "SELECT text FROM history") == [("3.8.10",)]


def test_slots_that_are_held_at_the_older_server_are_free_in_the_copy(tmp_path: Path) -> None:
    """Their leases are not carried over, so nobody would ever give them back: every later run would wait."""
    older = paths_for(tmp_path, "3.8.2")
    seed_database(older, "3.8.2")
    limit = 'INSERT INTO concurrency_limit_v2 (active, name, "limit", active_slots, denied_slots, slot_decay_per_second, '
    with closing(sqlite3.connect(older.database)) as connection, connection:
        connection.execute(f"{limit} avg_slot_occupancy_seconds) VALUES (1, 'tag:handler:tool', 1, 1, 5, 0, 2)")
    paths = paths_for(tmp_path, "3.8.11")
    seed_database(paths, "3.8.11")
    assert rows(paths.database, 'SELECT name, "limit", active_slots FROM concurrency_limit_v2') == [("tag:handler:tool", 1, 0)]
    assert rows(older.database, "SELECT active_slots FROM concurrency_limit_v2") == [(1,)]


def test_a_template_with_an_unknown_schema_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older Prefect cannot go on from a newer schema: its own migrations then build the database."""
    monkeypatch.setattr(server_database, "_migration_is_installed", lambda revision: False)
    paths = paths_for(tmp_path)
    seed_database(paths, PREFECT)
    assert list(paths.home.iterdir()) == []
