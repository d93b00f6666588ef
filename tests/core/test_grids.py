"""Grids that a person can look at."""

import numpy as np
import pytest

from genmodels.core.grids import GAP, banded, columns_of, grid, layout

SIDE = 28


def picture_of(count, labels=None, height=SIDE, width=SIDE):
    """(longer side over shorter side, share of empty places, columns, caption) of the grid of so many images."""
    images = np.zeros((count, height, width, 1), np.uint8)
    columns, words = layout(images, labels)
    drawn = grid(images, columns)
    rows = (drawn.shape[0] - GAP) // (height + GAP)
    return max(drawn.shape[:2]) / min(drawn.shape[:2]), 1 - count / (rows * columns), columns, words


@pytest.mark.parametrize("count", [*range(1, 41), 97, 100, 102, 999, 1000, 1024])
def test_images_without_classes_make_a_picture_near_to_a_square_with_few_places_empty(count):
    oblong, empty, *_ = picture_of(count)
    assert oblong <= 2
    assert empty <= 0.26
    assert not empty or count > 2


@pytest.mark.parametrize(("height", "width"), [(16, 64), (64, 16), (8, 200)])
def test_oblong_images_make_a_picture_near_to_a_square_too(height, width):
    assert picture_of(60, None, height, width)[0] <= 1.5


@pytest.mark.parametrize(
    ("count", "classes", "columns"),
    [
        (100, 10, 10),  # the usual sheet
        (20, 10, 10),
        (64, 16, 16),
        (100, 2, 10),  # two columns of 50 are a tower: five of each class
        (30, 3, 6),
        (30, 1, 6),  # --labels=7 --num=30
        (100, 102, 10),  # one row of 100
        (204, 102, 15),  # two rows of 102
        (5, 10, 3),
        (15, 10, 4),  # the second turn is not whole enough to be a row
    ],
)
def test_a_column_shows_one_class_where_that_can_be_looked_at(count, classes, columns):
    labels = np.arange(count) % classes
    oblong, _, found, words = picture_of(count, labels)
    assert found == columns or (classes == 1 and found in (5, 6))
    assert oblong <= 5.01
    assert (words == "one class a column") == (1 < classes <= count // 2 and columns % classes == 0)
    if words:
        assert all(len({*labels[column::found]}) == 1 for column in range(found))


def test_labels_in_no_order_have_no_columns():
    labels = np.array([0, 1, 2, 0, 2, 1, 0, 1, 2])
    assert layout(np.zeros((9, 8, 8, 1), np.uint8), labels) == (3, "")


def test_every_image_stands_below_its_own_image_of_the_stack_before():
    above = np.arange(1, 8, dtype=np.uint8).reshape(7, 1, 1, 1)
    cells = banded([above, above + 100], 3).reshape(-1, 2, 3)
    assert cells[0].tolist() == [[1, 2, 3], [101, 102, 103]]
    assert cells[1].tolist() == [[4, 5, 6], [104, 105, 106]]
    assert (cells[2, 0, 0], cells[2, 1, 0]) == (7, 107)
    assert len({*cells[2, :, 1:].reshape(-1)}) == 1  # the grey of what is empty


def test_columns_in_turn_are_a_multiple_of_the_turn():
    assert columns_of(100, SIDE, SIDE, turn=7) % 7 == 0
