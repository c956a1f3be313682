"""Counts what a text holds."""

from __future__ import annotations


def words(text: str) -> int:
    """Number of words in the text."""
    return len(text.split(" "))


def mean_word_length(text: str) -> float:
    """Mean number of letters per word, 0.0 for a text without words."""
    found = text.split()
    return sum(map(len, found)) / len(found) if found else 0.0
