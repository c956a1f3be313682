"""The environment of an agent program: an allow-list, since whatever is in it goes to a model's tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

ALLOWED: Mapping[str, tuple[str, ...]] = {
    "who and where": ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "TZ", "TERM", "LANG", "LANGUAGE"),
    "desktop folders": ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"),
    "network": (
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    ),
    "tools of languages": (
        "VIRTUAL_ENV", "CONDA_PREFIX", "PYENV_ROOT", "JAVA_HOME", "GOPATH", "GOROOT", "GOCACHE", "GOMODCACHE", "CARGO_HOME",
        "RUSTUP_HOME", "CARGO_TARGET_DIR", "NVM_DIR", "NVM_BIN", "PNPM_HOME", "DOTNET_ROOT", "GEM_HOME", "ANDROID_HOME",
    ),
    "continuous integration": ("CI",),
}  # fmt: skip
"""Variables that every agent gets where they are set, by what they are for. The table in the docs is made from this."""

ALLOWED_PREFIXES: tuple[str, ...] = ("LC_", "KILROY_")
"""Variables that begin so are let through too: the locale, and what the engine says of the stage."""

_NAMES = frozenset(name for names in ALLOWED.values() for name in names)


def agent_environment(
    base: Mapping[str, str], *, provider: Iterable[str], more: Iterable[str] = (), private_tmp: Path
) -> dict[str, str]:
    """What of ``base`` an agent gets: the allow-list, its ``provider``'s variables, and ``more`` that the settings name.

    ``private_tmp`` is its ``TMPDIR``: what programs leave in a shared one, reports of failures above all, is for nobody else.
    """
    allowed = _NAMES | {*provider, *more}
    let_through = {name: value for name, value in base.items() if name in allowed or name.startswith(ALLOWED_PREFIXES)}
    return {**let_through, "TMPDIR": str(private_tmp)}
