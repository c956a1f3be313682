"""DOT text to a graph, with the place of everything that it holds. The only room that knows lark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilroy_engine.earlier import names_that_left

if not TYPE_CHECKING:
    __getattr__ = names_that_left(__name__)
