"""SIGTERM, SIGHUP and Ctrl-C as one exception, and a scope in which they wait for a good moment."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Seconds.  A signal so soon after another is the same request: a process is told of its parent's death, as
# `setpriv --pdeathsig` has it told, once for every thread that dies there.
BURST = 1.0


class Interrupted(BaseException):
    """Someone asked this process to end.  Not an Exception: nothing that handles errors should take it for one."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Request:
    """Whether a signal came while `deferred` was open."""

    signum: int | None = None

    def note(self, signum: int) -> None:
        """Take the first signal down; a second one, after its burst, interrupts at once."""
        self.signum = signum
        install()

    def obey(self) -> None:
        if self.signum is not None:
            raise Interrupted(self.signum)


class Listener:
    """The handler of the signals: hands the first of a burst on."""

    heard = float("-inf")  # when; for all listeners, since a burst may go on while the next one takes over

    def __init__(self, obey: Callable[[int], None]):
        self.obey = obey

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - Listener.heard >= BURST:
            Listener.heard = now
            self.obey(signum)


def install() -> None:
    """Raise `Interrupted` where the program is when a signal comes."""
    _handle(_raise)


@contextmanager
def deferred() -> Iterator[Request]:
    """Signals only take a note; who opened the scope looks at it and obeys where it can."""
    request = Request()
    _handle(request.note)
    try:
        yield request
    finally:
        install()


def _handle(obey: Callable[[int], None]) -> None:
    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup ignores SIGHUP and means it
            signal.signal(signum, Listener(obey))


def _raise(signum: int) -> None:
    raise Interrupted(signum)
