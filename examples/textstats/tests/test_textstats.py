"""Tests of the example project."""

import unittest

from textstats import mean_word_length, words


class WordsTest(unittest.TestCase):
    def test_counts_words_between_any_white_space(self) -> None:
        self.assertEqual(words("to be\nor  not"), 4)

    def test_an_empty_text_has_no_words(self) -> None:
        self.assertEqual(words(""), 0)

    def test_mean_length(self) -> None:
        self.assertEqual(mean_word_length("a bcd"), 2.0)


if __name__ == "__main__":
    unittest.main()
