"""Standard output and error that break under a command, which goes on."""

import io
import os
import subprocess
import sys

import pytest

from genmodels.cli.sinks import Sink
from tests.helpers import ROOT


def said(stream):
    return stream.getvalue().splitlines()


def test_a_full_disk_drops_the_stream_and_the_other_one_says_so_once():
    other = io.StringIO()
    with open("/dev/full", "w") as full:  # every write to it fails as on a full disk
        sink = Sink(full, "standard output", other, forward=False)
        for number in range(3):
            print("step", number, file=sink, flush=True)
    assert said(other) == ["note: standard output cannot be written (No space left on device)"]


def test_errors_go_to_standard_output_where_standard_error_is_broken():
    out = io.StringIO()
    with open("/dev/full", "w") as full:
        print("error: wrong key", file=Sink(full, "standard error", out, forward=True), flush=True)
    assert said(out)[-1] == "error: wrong key"


def test_a_reader_that_has_left_is_no_news():
    reader, writer = os.pipe()
    os.close(reader)
    other = io.StringIO()
    with os.fdopen(writer, "w") as pipe:
        print("step 1", file=Sink(pipe, "standard output", other, forward=False), flush=True)
    assert said(other) == []


def test_a_stream_that_was_closed_takes_no_text_and_raises_nothing():
    closed, other = io.StringIO(), io.StringIO()
    closed.close()
    sink = Sink(closed, "standard output", other, forward=False)
    print("step 1", file=sink, flush=True)
    print("step 2", file=sink, flush=True)
    assert said(other) == []


def test_a_pipe_that_is_full_for_now_is_not_dropped():
    class Busy(io.StringIO):
        busy = True

        def write(self, text):
            if self.busy:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return super().write(text)

    stream, other = Busy(), io.StringIO()
    sink = Sink(stream, "standard output", other, forward=False)
    sink.write("lost")
    stream.busy = False
    sink.write("shown")
    assert (stream.getvalue(), said(other)) == ("shown", [])


def test_a_letter_that_the_stream_has_not_is_an_error_as_before():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with pytest.raises(UnicodeEncodeError):
        Sink(stream, "standard output", io.StringIO(), forward=False).write("é")


COMMAND = """
import os, pathlib
from genmodels import cli
def main():
    for number in range(20_000):
        print("line", number)
    lowest = os.open(os.devnull, os.O_RDONLY)
    pathlib.Path(os.environ["DONE"]).write_text("as a descriptor of its own" if lowest > 2 else "as a standard stream")
    return 3
cli.run(main)
"""


@pytest.mark.parametrize("shell", ["| head -1", "> /dev/full", "> /dev/full 2>&1", ">&-", "<&- >&- 2>&-"])
def test_a_command_ends_its_work_with_its_own_exit_code(shell, tmp_path):
    env = os.environ | {"DONE": str(tmp_path / "done"), "PROGRAM": COMMAND}
    run = f'"{sys.executable}" -c "$PROGRAM" {shell}; exit ${{PIPESTATUS[0]}}'
    result = subprocess.run(["bash", "-c", run], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 3, result.stderr
    assert (tmp_path / "done").read_text() == "as a descriptor of its own"
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) <= 1
