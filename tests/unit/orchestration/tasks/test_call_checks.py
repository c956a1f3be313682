"""What is found out about calls before a run starts. Modules are real files, imported from the current folder."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kilroy_engine.errors import InvalidPipeline
from kilroy_engine.execution.preparing.preparation import RunParameters, prepare_run
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.orchestration.tasks.call_checks import require_callable
from kilroy_engine.settings.options import Options

MODULE = """
from prefect import flow, task

@task
def load(n: int, note: str = ""):
    return n

@flow
async def whole(n: int):
    return n

@task
def several():
    yield 1

def plain():
    return 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the module ``kilroy_checked`` and some that cannot be imported."""
    (tmp_path / "kilroy_checked.py").write_text(MODULE)
    (tmp_path / "kilroy_torn.py").write_text("raise RuntimeError('no settings')\n")
    (tmp_path / "kilroy_needs.py").write_text("import kilroy_absent_dependency\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("kilroy_checked")]:
        del sys.modules[name]


def _refused(node: str, base: Path, *, simulate: bool = False) -> list[Diagnostic]:
    """Errors about node ``a``, whose attributes begin at line 2, column 4."""
    text = (
        f'digraph g {{ start [shape=Mdiamond] done [shape=Msquare] start -> a a -> done [condition="outcome=success"]\n'
        f"a [{node}] }}"
    )
    prepared = prepare_run(RunParameters(text, options=Options(workspace="plain", simulate=simulate)), environ={}, base=base)
    try:
        require_callable(prepared, ask_server=False)
    except InvalidPipeline as refusal:
        return [d for d in refusal.diagnostics if d.severity == "ERROR"]
    return []


@pytest.mark.parametrize(
    "node",
    [
        'type="prefect.task", ref="kilroy_checked:load", param.n=3',
        'type="prefect.task", ref="kilroy_checked:load", param.n="context:whatever"',
        'type="prefect.flow", ref="kilroy_checked:whole", param.n=3',
        'type="prefect.flow", ref="some flow/some deployment"',
    ],
)
def test_what_can_be_called_passes(node: str, folder: Path) -> None:
    """Found in the current folder, as on a worker; context values are known later, deployments only to a server."""
    assert _refused(node, folder) == []


@pytest.mark.parametrize(
    ("node", "column", "message"),
    [
        ('type="prefect.task", ref="kilroy_nowhere.etl:load"', 25, "no module kilroy_nowhere.etl: install it .* here /"),
        ('type="prefect.task", ref="kilroy_needs:load"', 25, "needs the module kilroy_absent_dependency, which is not"),
        ('type="prefect.task", ref="kilroy_torn:load"', 25, "importing kilroy_torn failed: RuntimeError: no settings"),
        ('type="prefect.task", ref="kilroy_checked:laod"', 25, r"has no laod; did you mean 'load'\?"),
        ('type="prefect.task", ref="kilroy_checked:whole"', 25, 'is a Prefect flow; write type="prefect.flow"'),
        (
            'type="prefect.flow", ref="kilroy_checked:plain"',
            25,
            "is a function and no Prefect .*decorate it with @prefect.flow",
        ),
        ('type="prefect.task", ref="kilroy_checked:several"', 25, "is a generator; return a list"),
        ('type="prefect.task", ref="kilroy_checked:load"', 25, "it needs the parameter n: add param.n="),
        ('type="prefect.task", ref="kilroy_checked:load", param.n=x', 52, "param.n is 'x', and the parameter takes int"),
        ('type="prefect.task", ref="kilroy_checked:load", param.n=1, param.note2=x', 63, r"did you mean 'note'\?"),
    ],
)
def test_what_cannot_be_called_is_refused_at_its_place(node: str, column: int, message: str, folder: Path) -> None:
    """With the reason, and how to mend it."""
    (diagnostic,) = _refused(node, folder)

    assert (diagnostic.rule, diagnostic.node, diagnostic.line, diagnostic.column) == ("prefect_ref", "a", 2, column)
    assert re.search(message, diagnostic.message)


def test_a_simulated_run_imports_nothing(folder: Path) -> None:
    """It executes nothing, the code of modules included."""
    assert _refused('type="prefect.task", ref="kilroy_torn:load"', folder, simulate=True) == []
    assert "kilroy_torn" not in sys.modules
