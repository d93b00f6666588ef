"""How far a long pass has come: lines in a log, a live line on a terminal, nothing for a short pass."""

import io
import re

import pytest

from genmodels.cli import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until its time is set."""
    now = [100.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def pass_over(seconds, clock):
    with progress.progress("images", 4 * seconds) as bar:
        for _ in range(4 * seconds):
            clock[0] += 0.25
            bar.update(1)


def test_a_log_has_a_line_at_most_every_five_seconds(clock, capsys):
    pass_over(23, clock)
    lines = capsys.readouterr().out.splitlines()
    done = [int(re.match(r"images: (\d+) of 92, ", line)[1]) for line in lines]
    assert done == [20, 40, 60, 80]
    assert lines[0] == "images: 20 of 92,  4.00it/s, 00:18 left"


def test_a_short_pass_leaves_no_line_in_a_log(clock, capsys):
    pass_over(4, clock)
    assert capsys.readouterr().out == ""


def test_a_terminal_has_one_live_line_that_is_cleared(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    pass_over(4, clock)
    written = terminal.getvalue()
    assert "\n" not in written
    states = written.split("\r")
    assert any("16/16" in state for state in states)
    assert states[-2].strip() == states[-1] == ""


def test_passes_one_after_the_other_and_in_each_other_leave_whole_lines(clock, capsys):
    with progress.progress("outer", 2) as bar:
        pass_over(6, clock)
        bar.update(1)
        pass_over(6, clock)
    out = capsys.readouterr().out
    assert [line.split(":")[0] for line in out.splitlines()] == ["images", "outer", "images"]
    assert "\x1b" not in out
