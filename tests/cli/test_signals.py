"""Signals before and after a run has something to save."""

import os
import signal

import pytest

from genmodels.cli.signals import stop_requests

# Slurm's requeueing wants 85 of a job that was preempted; 130 is what a shell gives for Ctrl-C.
CODES = {
    signal.SIGTERM: 85,
    signal.SIGHUP: 85,
    signal.SIGUSR1: 85,
    signal.SIGINT: 130,
    signal.SIGQUIT: 130,
}


@pytest.fixture(autouse=True)
def terminal_may_close():
    """Under `nohup` the tests would ignore SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_signal_leaves_at_once_until_training_asks_for_it(number, capsys):
    before = signal.getsignal(number)
    with stop_requests(), pytest.raises(SystemExit) as caught:
        os.kill(os.getpid(), number)
    assert caught.value.code == CODES[number]
    assert "stopped before training began" in capsys.readouterr().err
    with stop_requests() as requested:
        assert requested() is None
        os.kill(os.getpid(), number)
        assert requested() == CODES[number]
    assert signal.getsignal(number) == before


def test_what_nohup_ignores_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup starts a process
    try:
        with stop_requests() as requested:
            requested()
            os.kill(os.getpid(), signal.SIGHUP)
            assert requested() is None
            os.kill(os.getpid(), signal.SIGTERM)
            assert requested() == 85
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGQUIT])
def test_a_second_key_leaves_at_once(first, second, monkeypatch):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    with stop_requests() as requested:
        requested()
        os.kill(os.getpid(), first)
        assert not left
        os.kill(os.getpid(), signal.SIGTERM)  # a scheduler stops the job meanwhile: it still saves
        assert not left
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), second)
    assert left == [130]
