"""Signals that ask a process to end: a burst counts once, and a later signal interrupts at once."""

import signal
import subprocess
import sys
import time

import pytest
from gsm8k_grpo.runtime import interrupts
from gsm8k_grpo.runtime.interrupts import BURST, Interrupted, Listener

# The parent has 16 more threads; setpriv signals the child for each thread that dies after the one that started it.
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
def fresh_handlers(monkeypatch):
    """No burst and no ignored signal before the test, and pytest's own handlers after it."""
    monkeypatch.setattr(Listener, "heard", float("-inf"))
    # Under nohup SIGHUP is ignored, and stays so.
    before = {signum: signal.signal(signum, signal.SIG_DFL) for signum in interrupts.SIGNALS}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_a_signal_raises_interrupted():
    interrupts.install()
    with pytest.raises(Interrupted, match="SIGTERM"):
        signal.raise_signal(signal.SIGTERM)


def test_a_deferred_signal_is_noted_and_raised_when_obeyed():
    with interrupts.deferred() as request:
        signal.raise_signal(signal.SIGHUP)
        assert request.signum == signal.SIGHUP
    with pytest.raises(Interrupted, match="SIGHUP"):
        request.obey()


def test_the_signals_of_one_burst_are_one_request_even_after_the_block():
    with interrupts.deferred() as request:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert request.signum == signal.SIGTERM


def test_a_second_request_interrupts_a_deferring_block_at_once():
    with interrupts.deferred():
        signal.raise_signal(signal.SIGTERM)
        time.sleep(BURST)
        with pytest.raises(Interrupted, match="SIGINT"):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("turn", range(5))  # in one turn the child may happen to receive a single signal
def test_the_death_of_a_parent_with_many_threads_is_one_request(turn):
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "up\n"
        parent.kill()
        assert parent.stdout.readline() == "saved\n"
