"""The ``kilroy`` command."""
