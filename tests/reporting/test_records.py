"""Damage in metrics.jsonl costs the damaged lines, and neither a run nor a report."""

import json

import pytest

from genmodels.core.files import write_text
from genmodels.errors import StorageError
from genmodels.reporting.records import parse, read_metrics
from genmodels.reporting.writers import Writer

GOOD = [b'{"step": 2, "loss": 3.0}', b'{"step": 4, "loss": 2.0, "warnings": ["collapse: all alike"]}']
DAMAGED = {
    b'{"step": 6, "lo': "a part of it is missing",
    b'{"step": 6, "loss": 1.0': "a part of it is missing",
    b"\xff\xfe{\x00": "not UTF-8",
    b"\x00" * 4096: "not JSON",
    b"6": "not a JSON object",
    b"[6, 1.0]": "not a JSON object",
    b'"step"': "not a JSON object",
    b"null": "not a JSON object",
    b"{}": "no step",
    b'{"step": "6"}': "no step",
    b'{"step": true}': "no step",
    b'{"step": -6}': "no step",
    b'{"step": 6.5}': "no step",
    b'{"step": 6, "loss": null}': "'loss' is not a number",
    b'{"step": 6, "loss": "1.0"}': "'loss' is not a number",
    b'{"step": 6, "loss": [1.0]}': "'loss' is not a number",
    b'{"step": 6, "loss": ' + b"9" * 400 + b"}": "'loss' is too large",
    b'{"step": ' + b"9" * 5000 + b"}": "not JSON",
    b'{"step": 6, "warnings": "collapse"}': "no list of texts",
    b'{"step": 6, "warnings": ["\\ud800"]}': "not Unicode",
    b'{"step": 6, "\\ud800": 1.0}': "not Unicode",
    b'{"step": 6, "loss": ' + b"[" * 100_000: "",  # nested more deeply than Python's parser goes
}


@pytest.mark.parametrize("line", DAMAGED, ids=lambda line: str(line[:30]))
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_damaged_line_is_named_once_and_a_resume_goes_on_from_the_good_ones(tmp_path, capsys, line, place, end):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join([*GOOD[:place], line, *GOOD[place:]]) + end)
    good = [json.loads(one) for one in GOOD]
    assert read_metrics(path) == good
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith(f"warning: {path}: line {place + 1} is damaged (")
    assert DAMAGED[line] in said
    assert path.read_bytes().count(line)  # reading changes nothing

    writer = Writer(tmp_path, 4, 10)
    writer.write(6, {"loss": 1.0})
    writer.close()
    assert f"line {place + 1} is damaged" in capsys.readouterr().out
    assert read_metrics(path) == [*good, {"step": 6, "loss": 1.0}]
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == line + b"\n"
    Writer(tmp_path, 6, 10).close()
    assert "damaged" not in capsys.readouterr().out


def test_many_damaged_lines_are_one_warning_and_an_earlier_one_stays_aside(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    (tmp_path / "metrics.jsonl.damaged").write_bytes(b"before\n")
    path.write_bytes(b"\n".join([b"\xff", GOOD[0], *[b"\x00"] * 9, GOOD[1], b'{"step"']))
    assert [record["step"] for record in read_metrics(path, move_damage=True)] == [2, 4]
    (said,) = capsys.readouterr().out.splitlines()
    assert "lines 1, 3, 4 and 8 more are damaged (it is not UTF-8 of line 1)" in said
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes().startswith(b"before\n\xff\n\x00\n")


def test_records_may_have_been_through_another_system(tmp_path):
    """Windows ends lines with a carriage return and begins files with a byte-order mark."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([*GOOD, b"", b" "]))
    records, damaged = parse(path)
    assert (len(records), damaged) == (2, [])


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    assert parse(tmp_path / "metrics.jsonl") == ([], [])
    write_text(tmp_path / "metrics.jsonl" / "a", "")
    with pytest.raises(StorageError, match=r"metrics\.jsonl: cannot be read"):
        parse(tmp_path / "metrics.jsonl")
