"""Whether a Prefect API is configured, told without importing Prefect."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kilroy_engine.server.api_address import api_is_surely_unconfigured

URL = "http://127.0.0.1:4200/api"


@dataclass(frozen=True)
class Place:
    """A machine as far as it can configure Prefect. ``sure``: the quick look must find that nothing does."""

    name: str
    sure: bool
    environ: dict[str, str] = field(default_factory=dict[str, str])
    working_files: dict[str, str] = field(default_factory=dict[str, str])
    home_files: dict[str, str] = field(default_factory=dict[str, str])


LOCAL_PROFILE = (
    f'active = "team"\n[profiles.team]\nPREFECT_API_URL = "{URL}"\n[profiles.plain]\nPREFECT_LOGGING_LEVEL = "INFO"\n'
)

PROFILES = {".prefect/profiles.toml": LOCAL_PROFILE}
ELSEWHERE = {"x.toml": LOCAL_PROFILE}
NAMES_PROFILES = '[tool.prefect]\nprofiles_path = "x.toml"\n'

PLACES = [
    Place("nothing at all", sure=True),
    Place("variable", sure=False, environ={"PREFECT_API_URL": URL}),
    Place("variable in lower case", sure=False, environ={"prefect_api_url": URL}),
    Place("variable for the whole group", sure=False, environ={"PREFECT_API": json.dumps({"url": URL})}),
    Place("unrelated variable", sure=True, environ={"PREFECT_LOGGING_LEVEL": "INFO"}),
    Place("test mode", sure=False, environ={"PREFECT_TEST_MODE": "1"}),
    Place("active profile", sure=False, home_files=PROFILES),
    Place("profile chosen by variable", sure=False, environ={"PREFECT_PROFILE": "team"}, home_files=PROFILES),
    Place("harmless profile chosen", sure=True, environ={"PREFECT_PROFILE": "plain"}, home_files=PROFILES),
    Place("active profile missing", sure=True, environ={"PREFECT_PROFILE": "gone"}, home_files=PROFILES),
    Place("profiles file is not TOML", sure=False, home_files={".prefect/profiles.toml": "active = team"}),
    Place("home given", sure=False, environ={"PREFECT_HOME": "{home}/p"}, home_files={"p/profiles.toml": LOCAL_PROFILE}),
    Place("home given without profiles", sure=True, environ={"PREFECT_HOME": "{home}/p"}, home_files=PROFILES),
    Place("profiles file given", sure=False, environ={"PREFECT_PROFILES_PATH": "{home}/x.toml"}, home_files=ELSEWHERE),
    Place("profiles file given, relative", sure=False, environ={"PREFECT_PROFILES_PATH": "x.toml"}, working_files=ELSEWHERE),
    Place("dotenv", sure=False, working_files={".env": f"PREFECT_API_URL={URL}\n"}),
    Place("dotenv with a profile", sure=False, working_files={".env": "PREFECT_PROFILES_PATH=x.toml\n"} | ELSEWHERE),
    Place("dotenv of another program", sure=True, working_files={".env": "DATABASE_URL=sqlite://\n"}),
    Place("prefect.toml", sure=False, working_files={"prefect.toml": f'[api]\nurl = "{URL}"\n'}),
    Place("pyproject.toml", sure=False, working_files={"pyproject.toml": f'[tool.prefect.api]\nurl = "{URL}"\n'}),
    Place("pyproject.toml, dotted keys", sure=False, working_files={"pyproject.toml": f'[tool]\nprefect.api.url = "{URL}"\n'}),
    Place("pyproject.toml with profiles", sure=False, working_files={"pyproject.toml": NAMES_PROFILES} | ELSEWHERE),
    Place("pyproject.toml of another tool", sure=True, working_files={"pyproject.toml": "[tool.ruff]\nline-length = 128\n"}),
    Place("pyproject.toml is not TOML", sure=False, working_files={"pyproject.toml": "[tool"}),
    Place("dotenv is not text", sure=False, working_files={".env": "\udcff\udcfe"}),
]  # fmt: skip

# Prints the URL that Prefect resolves in each place. A fresh process for each would cost two seconds; settings are read anew.
RESOLVER = """
import json, os, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import prefect.settings.sources as sources
from prefect.settings import Settings
clean = {name: value for name, value in os.environ.items() if not name.upper().startswith("PREFECT")}
for place in json.loads(sys.stdin.read()):
    os.environ.clear()
    os.environ.update(clean | place["environ"])
    os.chdir(place["cwd"])
    sources.DEFAULT_PREFECT_HOME = Path(place["environ"]["HOME"]) / ".prefect"  # computed at import otherwise
    try:
        print(json.dumps(Settings().api.url))
    except Exception as error:
        print(json.dumps(type(error).__name__))
"""


def lay_out(place: Place, root: Path) -> tuple[dict[str, str], Path]:
    home, cwd = root / "home", root / "work"
    for base, files in ((home, place.home_files), (cwd, place.working_files)):
        base.mkdir(parents=True)
        for name, text in files.items():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    return {"HOME": str(home)} | {
        name: value.format(home=home) if "{home}" in value else value for name, value in place.environ.items()
    }, cwd


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_only_a_place_without_any_setting_is_surely_unconfigured(place: Place, tmp_path: Path) -> None:
    """Environment, profile, prefect.toml, pyproject.toml and .env are all looked at; what cannot be read leaves a doubt."""
    environ, cwd = lay_out(place, tmp_path)
    assert api_is_surely_unconfigured(environ, cwd) is place.sure


def test_a_sure_answer_is_never_against_prefect(tmp_path: Path) -> None:
    """Where the quick look is sure, Prefect resolves no URL; and the places that configure one really do, for Prefect."""
    laid_out = [lay_out(place, tmp_path / str(number)) for number, place in enumerate(PLACES)]
    questions = json.dumps([{"environ": environ, "cwd": str(cwd)} for environ, cwd in laid_out])
    told = subprocess.run(
        [sys.executable, "-c", RESOLVER], input=questions, capture_output=True, text=True, check=True, timeout=60
    )
    resolved = {place.name: json.loads(line) for place, line in zip(PLACES, told.stdout.splitlines(), strict=True)}
    assert {place.name: resolved[place.name] for place in PLACES if place.sure} == {
        place.name: None for place in PLACES if place.sure
    }
    configuring = {place.name for place in PLACES if not place.sure}
    not_telling = {"test mode", "profiles file is not TOML", "pyproject.toml is not TOML", "dotenv is not text"}
    assert {name for name in configuring if resolved[name] == URL} == configuring - not_telling


def test_the_quick_look_does_not_import_prefect() -> None:
    """The point of the quick look, and of the server's client side, is to be done before Prefect is imported."""
    package = "kilroy_engine.server"
    program = f"import sys, {package}.api_address, {package}.local_server; print('prefect' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    told = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip() == "False"
