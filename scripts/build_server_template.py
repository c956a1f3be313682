"""Builds the database that a local server starts from, for the installed Prefect version.

Run it after a change of the Prefect version: ``python scripts/build_server_template.py``. It runs Prefect's own migrations and
block registration in a temporary home and writes ``kilroy_engine/server/prefect-<version>-<revision>.db.gz``.
"""

# ruff: noqa: PLC0415 - Prefect reads the environment that this program sets before it is imported
from __future__ import annotations

import asyncio
import gzip
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

PACKAGE_DATA = Path(__file__).resolve().parents[1] / "kilroy_engine" / "server"


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            del os.environ[name]
        os.environ["PREFECT_HOME"] = home
        os.chdir(home)  # away from a prefect.toml or .env of the caller
        version = asyncio.run(build_schema())
        database = Path(home) / "prefect.db"
        revision = compact(database)
        for outdated in PACKAGE_DATA.glob("prefect-*.db.gz"):
            outdated.unlink()
        template = PACKAGE_DATA / f"prefect-{version}-{revision}.db.gz"
        template.write_bytes(gzip.compress(database.read_bytes(), compresslevel=9, mtime=0))
        print(f"{template.name}: {template.stat().st_size} bytes")  # noqa: T201 - a script tells what it made


async def build_schema() -> str:
    """Migrates an empty database to the newest schema, registers Prefect's block types, and gives Prefect's version."""
    import prefect
    from prefect.server.database import provide_database_interface
    from prefect.server.models.block_registration import run_block_auto_registration

    database = provide_database_interface()
    await database.create_db()
    async with await database.session() as session:
        await run_block_auto_registration(session=session)
    await (await database.engine()).dispose()
    return prefect.__version__


def compact(database: Path) -> str:
    """Leaves one small file without a write-ahead log, and gives the migration that its schema stands at."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(revision)


if __name__ == "__main__":
    main()
