"""Options of ``kilroy run`` and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilroy_engine.cli.run_options import IdentityFlags, LimitFlags, PlaceFlags, WorkerFlags, options_of, read_pairs
from kilroy_engine.errors import InvalidInput


def test_an_input_is_a_name_and_a_value() -> None:
    """The value may hold anything, the equals sign too; the last of a name wins; secrets stay names."""
    assert read_pairs(["a=1", "b=x=y", "c=", "a=2", "d=env:TOKEN"]) == {"a": "2", "b": "x=y", "c": "", "d": "env:TOKEN"}


def test_an_input_can_be_the_text_of_a_file(tmp_path: Path) -> None:
    """``NAME=@FILE``; two at signs are one."""
    (tmp_path / "spec.md").write_text("Line 1\nLine 2\n")
    assert read_pairs([f"spec=@{tmp_path}/spec.md", "handle=@@kilroy"]) == {"spec": "Line 1\nLine 2\n", "handle": "@kilroy"}


@pytest.mark.parametrize(("name", "text"), [("i.json", '{"a": "x", "n": 3, "t": true}'), ("i.yaml", "a: x\nn: 3\nt: true\n")])
def test_all_inputs_can_come_from_one_file(tmp_path: Path, name: str, text: str) -> None:
    """``@FILE`` holds a mapping in JSON or YAML; single inputs after it win. Values become text."""
    (tmp_path / name).write_text(text)
    assert read_pairs([f"@{tmp_path / name}", "a=y"]) == {"a": "y", "n": "3", "t": "true"}


def test_inputs_can_be_json_as_in_kilroy() -> None:
    """Kilroy: ``--input '{…}'``."""
    assert read_pairs(['{"a": "x", "list": [1, 2]}']) == {"a": "x", "list": "[1, 2]"}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("@missing.yaml", "missing.yaml cannot be read: No such file or directory"),
        ("a=@missing.txt", "missing.txt cannot be read"),
        ("@", "the file cannot be read"),
        ("{", "holds neither JSON nor YAML"),
    ],
)
def test_an_input_that_cannot_be_read_is_told_with_its_file(pair: str, message: str) -> None:
    """The message names the option's text and the reason."""
    with pytest.raises(InvalidInput, match=message):
        read_pairs([pair])


def test_a_file_of_inputs_must_be_a_mapping(tmp_path: Path) -> None:
    """A list has no names."""
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(InvalidInput, match="must hold a mapping of input names to values"):
        read_pairs([f"@{tmp_path}/list.json"])


def test_nothing_given_says_nothing() -> None:
    """Without options every setting is left to environment, settings file and default."""
    options = options_of(IdentityFlags(), PlaceFlags(), WorkerFlags(), LimitFlags())
    assert options == type(options)()


def test_paths_are_absolute_in_the_flows_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow may be retried from another folder."""
    monkeypatch.chdir(tmp_path)
    options = options_of(
        IdentityFlags(logs_root=Path("run"), config=Path("run.yaml")),
        PlaceFlags(workdir=Path("w")),
        WorkerFlags(),
        LimitFlags(),
    )
    assert (options.logs_root, options.config, options.workdir) == tuple(str(tmp_path / n) for n in ("run", "run.yaml", "w"))


def test_the_place_of_work_chooses_the_workspace() -> None:
    """``--repo`` insists on git, ``--no-git`` on a scratch folder."""
    assert options_of(IdentityFlags(), PlaceFlags(repo=Path()), WorkerFlags(), LimitFlags()).workspace == "git"
    assert options_of(IdentityFlags(), PlaceFlags(no_git=True), WorkerFlags(), LimitFlags()).workspace == "plain"
