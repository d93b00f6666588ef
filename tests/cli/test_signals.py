"""Signals before and after a run has something to save."""

import os
import signal

import pytest

from genmodels.cli.signals import stop_requests


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 85), (signal.SIGINT, 130)])
def test_a_signal_leaves_at_once_until_training_asks_for_it(number, code, capsys):
    with stop_requests(), pytest.raises(SystemExit) as caught:
        os.kill(os.getpid(), number)
    assert caught.value.code == code
    assert "stopped before training began" in capsys.readouterr().err
    with stop_requests() as requested:
        assert requested() is None
        os.kill(os.getpid(), number)
        assert requested() == code
