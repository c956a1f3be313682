"""Command line: ``python textstats.pyz TEXT``."""

import sys

from textstats import mean_word_length, words


def main() -> None:
    """Prints the figures of the text given as arguments."""
    text = " ".join(sys.argv[1:])
    print(f"{words(text)} words, {mean_word_length(text):.1f} letters each")
