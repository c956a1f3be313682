"""Reads DOT text into a graph that knows the place of each node, edge and attribute. Only this room imports lark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilroy_engine.earlier import names_that_left

if not TYPE_CHECKING:
    __getattr__ = names_that_left(__name__)
