"""Draws a graph with Graphviz, if Graphviz is installed."""

from __future__ import annotations

import shutil
import subprocess

from kilroy_engine.errors import KilroyError


def draw(dot_text: str, kind: str, *, timeout_s: float, options: tuple[str, ...] = ()) -> bytes:
    """The picture of ``dot_text`` in the format ``kind``, such as ``svg``. ``options`` are further options of the program
    ``dot``.

    Raises:
        KilroyError: Graphviz is not installed, failed, or took longer than ``timeout_s``.
    """
    program = shutil.which("dot")
    if program is None:
        raise KilroyError(
            f".{kind} pictures need Graphviz, and its program `dot` is not on the PATH; install the package graphviz, "
            "or write a .mmd or .dot file, which need nothing"
        )
    command = [program, f"-T{kind}", *options]
    try:
        drawn = subprocess.run(command, input=dot_text.encode(), capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise KilroyError(f"Graphviz did not draw the picture within {timeout_s:g} s; try a .mmd file") from error
    if drawn.returncode != 0:
        raise KilroyError(f"Graphviz failed: {drawn.stderr.decode('utf-8', 'replace').strip()}")
    return drawn.stdout
