"""Programs that run as our children: watched, stopped in order within bounds, and never left behind.

Each child leads a session of its own, so that Ctrl-C at the terminal reaches only us and we decide who stops when. The
kernel ends a child when we are killed with -9 (the parent-death signal, on Linux).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import BinaryIO

_POLL_SECONDS = 0.05
_LOG_BYTES_MAX = 10 * 1024 * 1024
_LOG_LINES_SHOWN = 20
_LOG_BYTES_SHOWN = 64 * 1024
_PR_SET_PDEATHSIG = 1
# Resolved here, because between fork and exec as little as possible should happen.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class StackError(Exception):
    """The stack cannot start or go on; the message tells the operator why, and what to do."""


class StopRequested(Exception):
    """A stop was asked for while something was awaited."""


class StopSwitch:
    """Whether a stop was asked for. A bare attribute, because a signal handler must not wait for any lock."""

    def __init__(self) -> None:
        self.requested = False

    def request(self) -> None:
        """Ask for the stop; asking again changes nothing."""
        self.requested = True


@contextmanager
def stop_on_signals(switch: StopSwitch) -> Iterator[None]:
    """Turn SIGTERM, SIGINT and SIGHUP into a request to stop, for a process that ends with this block.

    Afterwards the signals are ignored: a second Ctrl-C must not spoil the exit of a stack that is stopped already.
    """

    def request(_number: int, _frame: FrameType | None) -> None:
        switch.request()

    caught = [signal.SIGTERM, signal.SIGINT]
    # `nohup` ignores SIGHUP on purpose.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        caught.append(signal.SIGHUP)
    for number in caught:
        signal.signal(number, request)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_IGN)


@dataclass(frozen=True)
class Account:
    """The user and group a child runs as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Program:
    """What to run, and how it ends. No secret belongs into ``command``: every user of the machine can read it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    stop: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 5.0),)
    """Signals to send one after the other, each with the seconds to wait; SIGKILL to the group follows by itself."""
    death_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends the child when we die."""
    account: Account | None = None
    """None: our own."""
    keep_open: tuple[int, ...] = ()
    """File descriptors the child inherits under the same numbers."""
    ends: bool = False
    """Whether it is meant to end by itself; then exit status 0 is no crash."""


class Child:
    """One running program and its log."""

    def __init__(self, program: Program, log_file: Path, *, keep_open: tuple[int, ...] = ()) -> None:
        """Start it. Raises StackError when the program cannot be executed."""
        self.program = program
        self.log_file = log_file
        with _open_log(log_file) as log:
            self._log_start = log.tell()
            try:
                self._process = _spawn(program, log.fileno(), keep_open)
            except OSError as error:
                raise StackError(f"{program.name} cannot be started: {error}") from error

    @property
    def pid(self) -> int:
        """The process id, which is also the id of the child's process group."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    @property
    def crashed(self) -> bool:
        """Whether it ended although it should not have."""
        status = self.exit_status
        return status is not None and not (self.program.ends and status == 0)

    def stop(self) -> None:
        """End it and its whole group, within the program's bounds."""
        for number, seconds in self.program.stop:
            if self.exit_status is not None:
                break
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        # Also when the leader is gone: it may have left helpers of its own.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def last_lines(self) -> list[str]:
        """The end of what this run (not an earlier one) wrote."""
        with self.log_file.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _LOG_BYTES_SHOWN))
            return log.read().decode(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]

    def report(self, what: str) -> str:
        """``what``, the last lines of the log, and where to find it."""
        lines = self.last_lines() or ["(it wrote nothing)"]
        return "\n".join([f"{self.program.name} {what}; the end of {self.log_file}:", *(f"  {line}" for line in lines)])

    def obituary(self) -> str:
        """How it ended, with the last lines of its log."""
        status = self.exit_status or 0
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        return self.report(how)


class Supervisor:
    """Starts children, watches them while anything is awaited, and stops them in the reverse order of their start.

    Use it from the main thread: the parent-death signal is sent when the *thread* that forked ends.
    """

    def __init__(self, logs: Path, switch: StopSwitch) -> None:
        self._logs = logs
        self._switch = switch
        self._children: list[Child] = []
        self.keep_open: tuple[int, ...] = ()
        """File descriptors that every child inherits."""
        self.prepare: Callable[[Program], Program] = lambda program: program
        """What is done to every program before its start."""

    def start(self, program: Program) -> Child:
        """Start a program that is to run until ``stop``."""
        program = self.prepare(program)
        child = Child(program, self._logs / f"{program.name}.log", keep_open=self.keep_open)
        self._children.append(child)
        return child

    def run(self, program: Program, deadline: float) -> None:
        """Start a program with ``ends`` and wait for its end. Raises StackError when it fails."""
        child = self.start(program)
        self.wait_until(lambda: child.exit_status is not None, deadline, lambda: child.report("did not end in time"))
        self._children.remove(child)

    def check(self) -> None:
        """Raise StopRequested when a stop was asked for, StackError when a child crashed."""
        if self._switch.requested:
            raise StopRequested
        for child in self._children:
            if child.crashed:
                raise StackError(child.obituary())

    def wait_until(self, ready: Callable[[], bool], deadline: float, otherwise: Callable[[], str]) -> None:
        """Wait for ``ready``, checking the children meanwhile; past ``deadline`` raise StackError(otherwise())."""
        self.check()
        while not ready():
            if time.monotonic() > deadline:
                raise StackError(otherwise())
            time.sleep(_POLL_SECONDS)
            self.check()

    def wait_for_call(self, call: Callable[[], None], deadline: float, otherwise: Callable[[], str]) -> None:
        """Run ``call`` beside us, so that even one that hangs neither hides a crash nor holds up a stop."""
        failures: list[Exception] = []

        def keep_failure() -> None:
            try:
                call()
            except Exception as error:  # noqa: BLE001  # raised again below, in the thread that waits
                failures.append(error)

        thread = threading.Thread(target=keep_failure, daemon=True)
        thread.start()
        self.wait_until(lambda: not thread.is_alive(), deadline, otherwise)
        if failures:
            raise StackError(f"{otherwise()}: {failures[0]}") from failures[0]

    def watch(self) -> None:
        """Return when a stop is asked for. Raises StackError when a child crashes first."""
        with suppress(StopRequested):
            while True:
                self.check()
                time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop every child, the last started first. Prints nothing, so that a broken terminal cannot hinder it."""
        while self._children:
            self._children[-1].stop()
            self._children.pop()


def _spawn(program: Program, log: int, keep_open: tuple[int, ...]) -> subprocess.Popen[bytes]:
    account = program.account
    return subprocess.Popen(  # noqa: S603  # our own programs, without a shell
        program.command,
        env=dict(program.environment),
        cwd=program.directory,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(*keep_open, *program.keep_open),
        start_new_session=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        # It runs after the change of user, which would clear the parent-death signal.
        preexec_fn=_die_with_parent(os.getpid(), program.death_signal),
    )


def _die_with_parent(parent: int, death_signal: signal.Signals) -> Callable[[], None] | None:
    libc = _LIBC
    if libc is None:
        return None

    def before_exec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        # A parent that died before the call above sends nothing any more.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return before_exec


def _open_log(path: Path) -> BinaryIO:
    with suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
    log = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
    log.seek(0, os.SEEK_END)
    return log
