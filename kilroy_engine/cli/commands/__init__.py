"""The commands of ``kilroy``, one module each."""
