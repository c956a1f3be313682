"""Texts in the form that Go gives them and that Kilroy's users know: how a process ended, how long something took."""

from __future__ import annotations

import signal

_SIGNAL_NAMES: dict[int, str] = {
    signal.SIGHUP: "hangup",
    signal.SIGINT: "interrupt",
    signal.SIGQUIT: "quit",
    signal.SIGILL: "illegal instruction",
    signal.SIGTRAP: "trace/breakpoint trap",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGKILL: "killed",
    signal.SIGUSR1: "user defined signal 1",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGUSR2: "user defined signal 2",
    signal.SIGPIPE: "broken pipe",
    signal.SIGALRM: "alarm clock",
    signal.SIGTERM: "terminated",
}


def exit_text(exit_code: int) -> str:
    """``exit status 3``, or ``signal: killed`` for the negative exit codes of :mod:`subprocess`."""
    if exit_code >= 0:
        return f"exit status {exit_code}"
    return f"signal: {_SIGNAL_NAMES.get(-exit_code, f'signal {-exit_code}')}"


def duration_text(seconds: float) -> str:
    """A duration as Go prints it: ``250ms``, ``1.5s``, ``15m0s``, ``1h0m0s``."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest_s = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{round(rest_s, 9):g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
