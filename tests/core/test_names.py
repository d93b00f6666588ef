"""The order in which people count, and names that a file system takes."""

import random

import pytest

from genmodels.core.names import natural, safe, without_leading_zeros


@pytest.mark.parametrize(
    "names",
    [
        [f"img_{i}.png" for i in range(101)],
        [f"{i}/{j}.png" for i in range(12) for j in range(12)],
        ["a.png", "a1.png", "a2.png", "a10.png", "a10b2.png", "a10b11.png", "b.jpg"],
        ["cat/9.png", "cat/10.png", "cat 2/1.png", "cat 10/1.png"],
        ["v1.5", "v1.5.2", "v1.10", "v2"],
        [f"x{'9' * 5000}", f"x1{'0' * 5000}"],  # too long for an integer of Python
    ],
)
def test_numbers_in_names_are_counted_and_not_spelt(names):
    shuffled = random.Random(0).sample(names, len(names))
    assert sorted(shuffled, key=natural) == names


def test_names_that_differ_in_zeros_alone_have_an_order_too():
    assert sorted(["1", "01", "001", "2", "02"], key=natural) == ["001", "01", "1", "02", "2"]
    assert without_leading_zeros("img_007_v010") == without_leading_zeros("img_7_v10") == "img_7_v10"
    assert without_leading_zeros("000") == "0"


def test_any_class_gives_a_file_name(tmp_path):
    for number, name in enumerate(["a/b", "..", "\0", "é" * 300, "a b:c*?", "\udcff", "\n", "con", "x.y"]):
        (tmp_path / f"{number}_{safe(name)}.png").write_text("")
    assert len(list(tmp_path.glob("*.png"))) == 9
    assert safe("Maine Coon/2.5_kg") == "Maine-Coon-2.5_kg"
