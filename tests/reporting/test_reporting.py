"""What runs leave for people: images, TensorBoard, the report."""

import dataclasses
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from genmodels.data.sources import read_images
from genmodels.errors import ConfigError, DataError, StorageError
from genmodels.evaluators import Result
from genmodels.reporting import files, html, writers
from genmodels.reporting.writers import Writer, read_metrics


@pytest.fixture(scope="module")
def page(evaluated_run):
    return html.render([html.run_section(evaluated_run[0])])


def test_the_report_has_every_part_and_needs_no_other_file(page):
    warning = "20 generated images for 64 dimensions"
    pictures = ("Samples", "Denoising trajectory", "Nearest training images", "Denoised in one step")
    for title in (*pictures, "fd_digits", "learning_rate", warning):
        assert title in page
    assert page.count("data:image/png;base64,") == len(pictures)
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)


@pytest.fixture(scope="module")
def several(evaluated_run, tmp_path_factory):
    """A run, the same with another seed, and one of another experiment, scored better."""
    folder, (workdir, results) = tmp_path_factory.mktemp("several"), evaluated_run
    for name, key, value, better in (("a", "seed", 0, 0), ("b", "seed", 1, 0.2), ("c", "optim", {}, 0.5)):
        shutil.copytree(workdir, folder / name)
        config = json.loads((folder / name / "config.json").read_text())
        config |= {key: value if key == "seed" else config["optim"] | {"learning_rate": 0.5}}
        (folder / name / "config.json").write_text(json.dumps(config))
        changed = [dataclasses.replace(result, value=result.value * (1 - better)) for result in results]
        files.write_results(folder / name / "eval" / "result.json", changed)
    return [folder / name for name in "abc"], results[0].value


def test_runs_stand_side_by_side_with_seeds_averaged(several):
    runs, fd = several
    table = html.comparison([html.run_section(run) for run in runs])
    assert table.rows == ("a, b", "c")
    column = next(column for column in table.columns if column.metric == "fd_digits")
    assert column.ranking() == ["c", "a, b"]
    assert column.cells["a, b"].seeds == 2
    np.testing.assert_allclose(column.cells["a, b"].value, 0.9 * fd)
    np.testing.assert_allclose(column.cells["a, b"].std, 0.2 * fd / np.sqrt(2))


def test_a_seed_from_before_a_key_existed_shares_the_row(several, tmp_path):
    shutil.copytree(several[0][1], tmp_path / "b")
    path = tmp_path / "b" / "config.json"
    config = json.loads(path.read_text())
    del config["diffusion"]["snr_gamma"], config["ema"]["warmup"]
    path.write_text(json.dumps(config))
    table = html.comparison([html.run_section(run) for run in (several[0][0], tmp_path / "b")])
    assert table.rows == ("a, b",)


def test_checkpoints_of_a_run_are_rows_of_their_own(several, tmp_path):
    shutil.copytree(several[0][2], tmp_path / "c")
    path = tmp_path / "c" / "eval" / "early.json"
    path.write_text(
        (tmp_path / "c" / "eval" / "result.json").read_text().replace('"checkpoint_step": 6', '"checkpoint_step": 3')
    )
    table = html.comparison([html.run_section(run) for run in (several[0][0], tmp_path / "c")])
    assert table.rows == ("a", "c, step 6", "c, step 3")


def test_the_page_ranks_no_two_protocols_in_one_column_and_says_why(several, page):
    both = html.render([html.run_section(run) for run in several[0][:2]])
    assert "Side by side" in both
    assert "2 seeds" in both
    assert "nll has 2 columns that cannot be compared: they differ in likelihood (vlb / ode)" in both
    assert "Side by side" not in page


# Runs in the page and writes what it finds into the document, which --dump-dom prints.
PROBE = """<script>addEventListener("load", () => {
  const images = [...document.images], tall = svg => svg.getBoundingClientRect().height > 100;
  document.body.dataset.drawn = images.filter(image => image.complete && image.naturalWidth > 0).length;
  document.body.dataset.curves = [...document.querySelectorAll("svg")].filter(tall).length;
  document.body.dataset.overflow = document.documentElement.scrollWidth - innerWidth;
})</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [500, 1200])
@pytest.mark.parametrize("runs", [1, 3])
def test_a_browser_draws_the_whole_report(page, several, runs, width, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    if browser is None:
        pytest.skip("no chromium or chrome is installed")
    if runs > 1:
        page = html.render([html.run_section(run) for run in several[0]])
    (tmp_path / "report.html").write_text(page.replace("</body>", f"{PROBE}</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    where = [f"--user-data-dir={tmp_path}/profile", f"--window-size={width},900", "--dump-dom"]
    result = subprocess.run(
        [browser, *flags, *where, f"file://{tmp_path}/report.html"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = {key: int(value) for key, value in re.findall(r'data-(\w+)="(-?\d+)"', result.stdout)}
    assert found["drawn"] == 4 * runs
    assert found["curves"] >= 4
    assert found["overflow"] <= 0


def test_the_report_draws_the_terms_of_the_bound(scored, page):
    (bound,) = (r for r in files.read_results(scored[0] / "eval" / "result.json") if "curve" in r)
    assert bound["protocol"]["likelihood"] == "vlb"
    assert len(bound["curve"]["x"]) == len(bound["curve"]["y"]) == 5
    assert "curve" not in bound["protocol"]
    assert page.count("Variational bound, term by term") >= 1
    assert "bits/dim, one term" in page
    assert re.search(r"nll, vlb</td>\s*<td class=\"number\">[\d.]+ &plusmn; [\d.]+ bits/dim", page)


def test_terms_that_fall_as_a_power_of_the_timestep_lie_on_a_straight_line():
    curve = {"title": "terms", "x_label": "t", "y_label": "bits", "x": [1, 10, 100], "y": [100, 10, 1]}
    (found,) = html._result_plots([{"curve": curve}, {}])
    paths = [np.array(re.findall(r"[ML] (\S+) (\S+)", d), float) for d in re.findall(r'<path d="([^"]*)"', found.svg())]
    assert any(len(path) == 3 and np.allclose(path[1], (path[0] + path[2]) / 2, atol=1e-3) for path in paths)


def test_a_kill_at_resume_leaves_the_history(tmp_path, monkeypatch):
    """The old records are replaced in one move; if that is stopped just before, they are unchanged."""
    first = Writer(tmp_path, 0, 10)
    first.write(5, {"loss": 0.25})
    first.close()

    def stopped(source, target):
        raise OSError("stopped")

    monkeypatch.setattr("os.replace", stopped)
    with pytest.raises(StorageError, match="stopped"):
        Writer(tmp_path, 5, 10)
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 5, "loss": 0.25}]


def test_a_warning_is_said_when_it_comes_and_when_it_comes_again(tmp_path, capsys):
    writer = Writer(tmp_path, 0, 10)
    soon = [["collapse: 9"], ["collapse: 8", "dead codes: 3"], [], ["collapse: 7"]]
    for step, lines in enumerate([*soon, *[[]] * writers.MIN_RECORDS_BETWEEN_WARNINGS, ["collapse: 6"]]):
        writer.write(step, {"loss": 1.0}, lines)
    writer.close()
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [f"warning: step {r['step']}: {line}" for r in records for line in r.get("warnings", ())] == said
    assert said == ["warning: step 0: collapse: 9", "warning: step 1: dead codes: 3", "warning: step 14: collapse: 6"]


def test_tensorboard_gets_what_metrics_jsonl_gets(tmp_path):
    writer = Writer(tmp_path, 0, 10, tensorboard=True)
    writer.write(5, {"loss": 0.25, "grad_norm": 2.0})
    writer.close()
    (events,) = (tmp_path / "tensorboard").glob("events*")
    data = events.read_bytes()
    for name, value in (("loss", 0.25), ("grad_norm", 2.0)):
        # Summary.Value {tag = 1: string, simple_value = 2: float}, as TensorFlow's summary.proto has it.
        assert bytes([10, len(name)]) + name.encode() + b"\x15" + np.float32(value).tobytes() in data
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 5, "loss": 0.25, "grad_norm": 2.0}]


def test_tensorboard_that_is_not_installed_stops_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    writer = Writer(tmp_path, 0, 10, tensorboard=True)
    writer.write(5, {"loss": 0.25})
    writer.close()
    assert "tensorboardX is not installed" in capsys.readouterr().out


def test_tensorboard_on_a_full_disk_stops_nothing(tmp_path, monkeypatch, capsys):
    writer = Writer(tmp_path, 0, 10, tensorboard=True)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboardX.event_file_writer.EventsWriter.write_event", full)
    for step in range(1, 31):  # more than tensorboardX's own queue takes
        writer.write(step, {"loss": 0.25})
    writer.close()
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == list(range(1, 31))
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert warnings == ["warning: step 1: tensorboard/ cannot be written (No space left on device) and ends here"]


def test_tensorboard_that_cannot_be_opened_stops_nothing(tmp_path, capsys):
    (tmp_path / "tensorboard").write_text("a file in its place")
    Writer(tmp_path, 0, 10, tensorboard=True).close()
    assert "config.log.tensorboard: " in capsys.readouterr().out


def test_a_record_that_is_cut_short_by_a_full_disk_is_a_storage_error(tmp_path):
    writer = Writer(tmp_path, 0, 10)
    writer.write(1, {"loss": 0.25})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "metrics.jsonl").stat().st_size + 5, before[1]))
    try:
        with pytest.raises(StorageError, match=r"metrics\.jsonl: cannot be written: File too large"):
            writer.write(2, {"loss": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.close()
    again = Writer(tmp_path, 2, 10)  # the five bytes are dropped
    again.write(3, {"loss": 0.75})
    again.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 0.25}, {"step": 3, "loss": 0.75}]


def test_unreadable_images_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"\x89PNG but not")
    for name, words in [("none.npz", "no such"), ("empty", "looked for .png"), ("bad", r"a\.png cannot be read")]:
        with pytest.raises(DataError, match=words):
            read_images("--generated", str(tmp_path / name))


def test_images_to_score_may_be_any_source(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    files.write_images(tmp_path / "out", pixels, None, "")
    grey = read_images("--generated", f'folder("{tmp_path}/out", convert="grey")')
    assert grey.image_shape == (4, 4, 1)
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        for file in (tmp_path / "out").iterdir():
            archive.write(file, file.name)
    np.testing.assert_array_equal(read_images("--reference", str(tmp_path / "out.zip")).images, pixels)
    files.write_images(tmp_path / "out" / "grey", pixels[..., :1], None, "")
    with pytest.raises(DataError, match=r"--generated: .* lie beside"):
        read_images("--generated", str(tmp_path / "out"))
    files.write_images(tmp_path / "two", np.zeros((1, 4, 4, 4), np.uint8), None, "")
    with pytest.raises(DataError, match=r"has transparency: convert=rgb.*write --generated='folder\("):
        read_images("--generated", str(tmp_path / "two"))


def test_one_image_is_no_set_of_images(tmp_path):
    with pytest.raises(DataError, match=r"--generated=.*a\.PNG: is one image; name a folder"):
        read_images("--generated", str(tmp_path / "a.PNG"))


def test_a_folder_that_holds_images_is_not_mixed_with_new_ones(tmp_path):
    images = np.zeros((3, 4, 4, 1), np.uint8)
    files.write_images(files.check_out(str(tmp_path / "out")), images, None, "")
    (tmp_path / "out" / ".000000.png.left-by-a-kill.png").write_bytes(b"half")
    assert len(read_images("--generated", str(tmp_path / "out"))) == 3
    with pytest.raises(ConfigError, match="holds PNGs already"):
        files.check_out(str(tmp_path / "out"))


def test_a_table_of_counts_survives_the_file_and_is_drawn_true_classes_down(scored, tmp_path):
    shutil.copytree(scored[0], tmp_path / "run")
    names = {"title": "Confusion matrix", "row_label": "true class", "column_label": "predicted class"}
    table = names | {"names": ["<cat>", "dog"], "counts": [[30, 0], [7, 14]]}
    files.write_results(tmp_path / "run" / "eval" / "table.json", [Result("accuracy", 0.8, {}, table=table)])
    (read,) = files.read_results(tmp_path / "run" / "eval" / "table.json")
    assert read["table"] == table
    page = html.render([html.run_section(tmp_path / "run")])
    drawn = page[page.index('<table class="counts">') :]
    drawn = drawn[: drawn.index("</table>")]
    assert re.findall(r"<th>(.*?)</th>", drawn) == ["", "&lt;cat&gt;", "dog", "&lt;cat&gt;", "dog"]
    assert re.findall(r"<td[^>]*>(\d+)</td>", drawn) == ["30", "0", "7", "14"]
    assert "rows: true class, columns: predicted class" in drawn
    shades = re.findall(
        r"rgba\((\d+), .*?([\d.]+)\)", drawn
    )  # what is right is green, all the more the more of its row
    assert [red for red, _ in shades] == ["23", "170", "23"]
    right, wrong, mostly = (float(alpha) for _, alpha in shades)
    assert right > mostly > wrong


def test_the_report_names_what_training_warned_of(scored, page, tmp_path):
    shutil.copytree(scored[0], tmp_path / "run")
    assert "Warnings while it trained" not in page
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 7, "loss": 1.0, "warnings": ["collapse: <0.1"]}) + "\n")
    assert "<li>step 7: collapse: &lt;0.1</li>" in html.render([html.run_section(tmp_path / "run")])


def test_foreign_files_among_the_results(scored, tmp_path):
    shutil.copytree(scored[0], tmp_path / "run")
    (tmp_path / "run" / "eval" / ".result.json.left-by-a-kill.json").write_text("{")
    html.run_section(tmp_path / "run")
    (tmp_path / "run" / "eval" / "other.json").write_text("{}")
    with pytest.raises(StorageError, match=r"other\.json: not a result"):
        html.run_section(tmp_path / "run")


def test_a_picture_a_plot_or_a_line_that_is_damaged_leaves_the_report_its_numbers(scored, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(scored[0], run)
    (run / "samples" / "grid.png").write_bytes(b"\x89PNG and no more")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\n{"step": 7, "grad_norm": Infinity}\n[7]\n{"step": 8, "lo')
    curve = {"title": "$terms{", "x_label": "t", "y_label": "bits", "x": [np.inf], "y": [1.0]}
    table = {"title": "a", "row_label": "b", "column_label": "c", "names": ["d"], "counts": []}
    files.write_results(run / "eval" / "more.json", [Result("nll", 3.25, {}, curve={"x": [1]}, table=table)])
    bad = json.dumps({"results": [{"name": "nll", "value": 1.5, "protocol": {}, "curve": curve}]})
    (run / "eval" / "worse.json").write_text(bad)
    page = html.render([html.run_section(run)])
    for value in (3.25, 1.5):
        assert f"{value:.4g}" in page
    assert "<b>Denoising trajectory.</b>" in page
    said = capsys.readouterr().out.splitlines()
    assert sum("metrics.jsonl: lines 4, 6, 7 are damaged" in line for line in said) == 1
    for what in ("samples/grid.png", "a result's curve", "a result's table", "the plot '$terms{'"):
        assert sum(f"{what} was not drawn" in line for line in said) == 1


def test_results_of_one_age_are_in_the_order_of_their_numbers(scored, tmp_path):
    """Copies of a folder often are; then the last one is what a promise is held against."""
    run = tmp_path / "run"
    shutil.copytree(scored[0], run)
    (run / "eval" / "result.json").unlink()
    for step in (999000, 1200000, 20):
        files.write_results(run / "eval" / f"step_{step}.json", [Result("psnr", float(step), {})])
        os.utime(run / "eval" / f"step_{step}.json", (0, 0))
    found = [evaluation["file"] for evaluation in html.run_section(run)["evaluations"]]
    assert found == ["step_20.json", "step_999000.json", "step_1200000.json"]
