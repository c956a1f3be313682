"""Makes the first database of a local server from a template or an older database, which saves 15 seconds of migrations.

Prefect builds its SQLite schema by more than a hundred migrations. The template is package data: a database that Prefect's
migrations made, with Prefect's block types registered (made by ``scripts/build_server_template.py``). The server still runs
migrations at its start, and applies only those that are newer than the template.
"""

from __future__ import annotations

import gzip
import os
import re
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from kilroy_engine.server.record import ServerPaths

_TEMPLATE_NAME = re.compile(r"prefect-(?P<version>[\d.]+)-(?P<revision>[0-9a-f]+)\.db\.gz")


def seed_database(paths: ServerPaths, prefect_version: str) -> None:
    """Makes the server's database where there is none. Called before each start of the server.

    Copies the database of the newest older Prefect version, because a suspended run must be found after an upgrade. Without an
    older database, unpacks the template, if the installed Prefect has the template's migration. Otherwise does nothing, and
    Prefect's migrations build the database.
    """
    if paths.database.exists():
        return
    draft = paths.database.with_suffix(f".{os.getpid()}.tmp")
    try:
        if older := _newest_older_database(paths.directory, prefect_version):
            with closing(sqlite3.connect(older)) as source, closing(sqlite3.connect(draft)) as target:
                source.backup(target)  # a consistent copy, even while the older version's server writes
                _free_slots(target)
        elif template := _usable_template():
            draft.write_bytes(gzip.decompress(template.read_bytes()))
        else:
            return
        draft.chmod(0o600)
        draft.replace(paths.database)  # the database gets its name only when it is complete
    finally:
        draft.unlink(missing_ok=True)


def _free_slots(database: sqlite3.Connection) -> None:
    """Frees the slots of concurrency limits in the copy: the runs that hold them use the older version's server."""
    known = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'concurrency_limit_v2'").fetchone()
    if known:
        with database:
            database.execute("UPDATE concurrency_limit_v2 SET active_slots = 0, denied_slots = 0")


def block_types_are_shipped(prefect_version: str) -> bool:
    """Whether the template is of exactly this Prefect version. The server need not register block types at its start then."""
    return any(match["version"] == prefect_version for match in _templates().values())


def _templates() -> dict[Path, re.Match[str]]:
    files = sorted(Path(__file__).parent.glob("prefect-*.db.gz"))
    return {file: match for file in files if (match := _TEMPLATE_NAME.fullmatch(file.name))}


def _usable_template() -> Path | None:
    return next((file for file, match in _templates().items() if _migration_is_installed(match["revision"])), None)


def _migration_is_installed(revision: str) -> bool:
    prefect = find_spec("prefect")  # finds the package without importing it
    if prefect is None or prefect.origin is None:
        return False
    migrations = Path(prefect.origin).parent / "server" / "database" / "_migrations" / "versions" / "sqlite"
    return any(migrations.glob(f"*_{revision}_*.py"))


def _newest_older_database(directory: Path, prefect_version: str) -> Path | None:
    older = [
        sibling
        for sibling in directory.parent.iterdir()
        if () < _numbers(sibling.name) < _numbers(prefect_version) and ServerPaths(sibling).database.is_file()
    ]
    newest = max(older, key=lambda sibling: _numbers(sibling.name), default=None)
    return ServerPaths(newest).database if newest else None


def _numbers(version: str) -> tuple[int, ...]:
    """``3.8.10`` as (3, 8, 10). Ignores text after the numbers. A name without leading numbers gives an empty tuple."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in leading[0].split(".")) if leading else ()
