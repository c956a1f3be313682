"""Tests of textstats."""
