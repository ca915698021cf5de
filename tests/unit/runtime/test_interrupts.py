"""Signals that ask a process to end: told several times they are one request, and a later one does not wait."""

import signal
import subprocess
import sys
import time

import pytest
from gsm8k_grpo.runtime import interrupts
from gsm8k_grpo.runtime.interrupts import BURST, Interrupted, Listener

# Its parent has 16 threads more, and each that dies after the one that started it may tell it so.
PARENT = """
import subprocess, sys, threading, time
def others():
    for _ in range(8):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
others()
child = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-c", sys.argv[1]]
threading.Thread(target=subprocess.run, args=(child,)).start()
others()
time.sleep(60)
"""
CHILD = """
import time
from gsm8k_grpo.runtime import interrupts
with interrupts.deferred() as request:
    print("up", flush=True)
    while request.signum is None:
        time.sleep(0.0001)
    time.sleep(0.5)
time.sleep(0.1)
print("saved", flush=True)
"""


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """The tests' own handlers afterwards, and no signal heard before."""
    monkeypatch.setattr(Listener, "heard", float("-inf"))
    before = {signum: signal.getsignal(signum) for signum in interrupts.SIGNALS}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_a_signal_is_raised_where_the_program_is():
    interrupts.install()
    with pytest.raises(Interrupted, match="SIGTERM"):
        signal.raise_signal(signal.SIGTERM)


def test_while_deferred_a_signal_is_noted_and_obeyed_where_asked():
    with interrupts.deferred() as request:
        signal.raise_signal(signal.SIGHUP)
        assert request.signum == signal.SIGHUP
    with pytest.raises(Interrupted, match="SIGHUP"):
        request.obey()


def test_signals_of_one_burst_are_one_request_also_when_the_scope_has_ended():
    with interrupts.deferred() as request:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert request.signum == signal.SIGTERM


def test_a_second_request_does_not_wait():
    with interrupts.deferred():
        signal.raise_signal(signal.SIGTERM)
        time.sleep(BURST)
        with pytest.raises(Interrupted, match="SIGINT"):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("turn", range(5))  # by chance it is told once
def test_the_death_of_a_parent_with_many_threads_is_one_request(turn):
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "up\n"
        parent.kill()
        assert parent.stdout.readline() == "saved\n"
