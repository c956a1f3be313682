"""Identifies the machine, its boot and a process, so that a process is not taken for a later one with the same id."""

from __future__ import annotations

import socket
from functools import cache
from pathlib import Path

import psutil

from kilroy_engine.events.times import rfc3339_ns


@cache
def host_name() -> str:
    """Name of this machine."""
    return socket.gethostname()


@cache
def boot_id() -> str:
    """Identity of the machine's current boot: the kernel's id on Linux, the boot time elsewhere."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return rfc3339_ns(int(psutil.boot_time()) * 1_000_000_000)


def process_start_time(pid: int) -> int:
    """When process ``pid`` started: clock ticks since boot on Linux (Kilroy's unit), else milliseconds since the epoch.

    0 where there is no such process. Compare the value only with values of the same boot.
    """
    try:
        # The name in parentheses may hold blanks and parentheses; field 22 is the twentieth after it.
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        pass  # no such process, or no /proc
    try:
        return int(psutil.Process(pid).create_time() * 1000) if not Path("/proc/self/stat").exists() else 0
    except psutil.Error:
        return 0


def is_same_process(pid: int, start_time: int) -> bool:
    """Whether the process ``pid`` that started at ``start_time`` lives. A zombie does not count as alive."""
    try:
        return process_start_time(pid) == start_time != 0 and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
