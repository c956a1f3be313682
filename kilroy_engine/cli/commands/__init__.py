"""The commands of ``kilroy``, a file each."""
