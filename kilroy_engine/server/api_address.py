"""Finds out which Prefect API a run uses, and checks it. Where none is configured, the caller starts a local server.

Prefect's own resolution decides (environment, then files, then profile). Asking Prefect costs its import, 1.7 seconds in which
a local server could already be starting. So :func:`api_is_surely_unconfigured` looks at the same places first, without
importing Prefect.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from kilroy_engine.errors import ServerError

# Prefix of variables and keys that set an API URL. Only a prefix: Prefect takes some groups of settings as one JSON value.
_SETS_THE_URL = "PREFECT_API"
_ANSWER_TIMEOUT_S = 10.0
_TEST_MODES = ("PREFECT_TEST_MODE", "PREFECT_UNIT_TEST_MODE", "PREFECT_TESTING_")


def api_is_surely_unconfigured(environ: Mapping[str, str], cwd: Path) -> bool:
    """True only if Prefect will find no API URL in ``environ``, the files of ``cwd`` and the active profile. False in doubt.

    Does not import Prefect.
    """
    if any(name.upper().startswith((_SETS_THE_URL, *_TEST_MODES)) for name in environ):
        return False
    try:
        return (
            not (cwd / "prefect.toml").exists()
            and "prefect" not in _text(cwd / ".env").lower()
            and "prefect" not in _table(_table(tomllib.loads(_text(cwd / "pyproject.toml"))).get("tool"))
            and not _profile_sets_url(environ, cwd)
        )
    except (OSError, ValueError, TypeError):
        return False  # unreadable or not TOML: Prefect's own resolution decides


def configured_api_url() -> str:
    """The API URL from Prefect's settings, "" if none is configured. Imports Prefect."""
    from prefect.settings import get_current_settings  # noqa: PLC0415 - the quick look must not import Prefect

    return get_current_settings().api.url or ""


def check_api(url: str) -> None:
    """Makes one request to the configured Prefect API at ``url``. Imports Prefect, and uses its credentials and TLS settings.

    Raises:
        ServerError: Nothing answers at ``url``, no Prefect API is there, or the API refuses the credentials. The caller must
            not use another server instead.
    """
    import httpx  # noqa: PLC0415 - the quick look must not import Prefect, or what Prefect asks with
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - the same
    from prefect.settings import (  # noqa: PLC0415 - the same
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        temporary_settings,
    )

    patience = {PREFECT_API_REQUEST_TIMEOUT: _ANSWER_TIMEOUT_S, PREFECT_CLIENT_MAX_RETRIES: 1}
    try:
        with temporary_settings({PREFECT_API_URL: url, **patience}), get_client(sync_client=True) as client:
            client.read_flows(limit=1)  # needs credentials on every server; the health check does not
    except httpx.HTTPStatusError as error:
        raise ServerError(_refusal(url, error.response.status_code), url=url) from error
    except (httpx.HTTPError, httpx.InvalidURL, RuntimeError, ValueError) as error:  # all that Prefect's client may raise
        what = str(error).rstrip(".") or type(error).__name__
        raise ServerError(
            f"The configured Prefect API at {url} cannot be used: {what}. Start that server, or correct PREFECT_API_URL "
            "(`prefect config view --show-sources` tells where it is set), or unset it to use a local server.",
            url=url,
        ) from error


def _refusal(url: str, status: int) -> str:
    match status:
        case 401 | 403:
            mend = "It refuses the credentials: set PREFECT_API_AUTH_STRING or PREFECT_API_KEY."
        case 404:
            mend = "That is no Prefect API: check PREFECT_API_URL, it usually ends in /api."
        case _:
            mend = "Look at that server, or correct PREFECT_API_URL."
    return f"The configured Prefect API at {url} answered with HTTP {status}. {mend}"


def _profile_sets_url(environ: Mapping[str, str], cwd: Path) -> bool:
    document = tomllib.loads(_text(_profiles_path(environ, cwd)))
    active = environ.get("PREFECT_PROFILE") or document.get("active")
    profile = _table(_table(document.get("profiles")).get(str(active)))
    return any(name.upper().startswith(_SETS_THE_URL) for name in profile)


def _profiles_path(environ: Mapping[str, str], cwd: Path) -> Path:
    """The file in which Prefect looks for profiles, given that .env, prefect.toml and pyproject.toml do not mention Prefect."""
    if path := environ.get("PREFECT_PROFILES_PATH"):
        return cwd / path
    home = environ.get("PREFECT_HOME")
    if home and home.startswith("~"):
        raise ValueError("Prefect expands this for some files and not for others")
    return (cwd / home if home else Path(environ.get("HOME") or Path.home()) / ".prefect") / "profiles.toml"


def _text(path: Path) -> str:
    """Content of a text file, "" if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _table(value: object) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError("expected a table")
    return cast("dict[str, object]", value)
