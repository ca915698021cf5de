"""SIGINT (Ctrl-C), SIGTERM and SIGHUP as one exception, which a block can defer until it has saved its work."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# The seconds within which repeated signals count as one request.  `setpriv --pdeathsig`, which ends jobs together with
# Snakemake, sends a signal for every thread of the parent that dies, so one death may arrive as several signals.
BURST = 1.0


class Interrupted(BaseException):
    """A signal asked this process to end.  Not an Exception, so that code which handles errors does not catch it."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Request:
    """The signal that arrived while `deferred` was in effect; `signum` is None if none arrived."""

    signum: int | None = None
    _waits = True

    def note(self, signum: int) -> None:
        """Remember the first signal; a further one, after the burst of the first, interrupts at once."""
        self.signum = signum
        install()
        if not self._waits:
            raise Interrupted(signum)

    @contextmanager
    def obeyed_at_once(self) -> Iterator[None]:
        """Within the block, a signal raises `Interrupted` wherever the program is."""
        self.obey()
        self._waits = False
        try:
            yield
        finally:
            self._waits = True

    def obey(self) -> None:
        """Raise `Interrupted` if a signal has arrived."""
        if self.signum is not None:
            raise Interrupted(self.signum)


class Listener:
    """A signal handler that calls `obey` for the first signal of each burst."""

    burst = BURST
    heard = float("-inf")  # start of the last burst; shared, since a burst may outlast the listener that heard it first

    def __init__(self, obey: Callable[[int], None]):
        self.obey = obey

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - Listener.heard >= Listener.burst:
            Listener.heard = now
            self.obey(signum)


def install() -> None:
    """From now on, let a signal raise `Interrupted` wherever the program is."""
    _handle(_raise)


@contextmanager
def deferred() -> Iterator[Request]:
    """Within the block, a signal is only noted in the request, whose `obey` the block calls where it can stop."""
    request = Request()
    _handle(request.note)
    try:
        yield request
    finally:
        install()


def _handle(obey: Callable[[int], None]) -> None:
    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup lets SIGHUP be ignored, and so it stays
            signal.signal(signum, Listener(obey))


def _raise(signum: int) -> None:
    raise Interrupted(signum)
