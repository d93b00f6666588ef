import numpy as np
import pytest

from genmodels.metrics.nearest import nearest_neighbours


def noise(n, side=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 1), dtype=np.uint8)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_distances_equal_brute_force_and_copies_have_distance_zero(block):
    q, r = noise(300), noise(50, seed=1)
    q[3] = r[17]
    distance, index = nearest_neighbours(q, r, memory=8 * 16 * block)
    every = np.linalg.norm((q[:, None].astype(float) - r[None]).reshape(300, 50, -1) / 255, axis=-1)
    np.testing.assert_allclose(distance, every.min(1), atol=1e-12)
    np.testing.assert_array_equal(index, every.argmin(1))
    assert (distance[3], index[3]) == (0, 17)


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_of_equally_near_references_the_first_is_returned(block):
    r = noise(5).repeat(2, axis=0)
    distance, index = nearest_neighbours(r, r, memory=8 * 16 * block)
    np.testing.assert_array_equal(index, np.arange(10) // 2 * 2)
    np.testing.assert_array_equal(distance, 0)


def test_the_distance_from_black_to_white_is_the_root_of_the_number_of_pixels():
    black, white = np.zeros((1, 8, 8, 3), np.uint8), np.full((1, 8, 8, 3), 255, np.uint8)
    assert nearest_neighbours(black, white)[0] == pytest.approx(np.sqrt(8 * 8 * 3))


def test_references_may_be_any_object_that_reads_rows_by_index():
    class Stack:
        shape = (50, 4, 4, 1)
        most = 0

        def __getitem__(self, indices):
            self.most = max(self.most, len(indices))
            return noise(50, seed=1)[indices]

    stack = Stack()
    found = nearest_neighbours(noise(9), stack, memory=8 * 16 * 7)
    np.testing.assert_array_equal(found, nearest_neighbours(noise(9), noise(50, seed=1)))
    assert stack.most == 7


def test_different_shapes_and_missing_references_are_refused():
    for references in (noise(3, side=5), noise(0)):
        with pytest.raises(ValueError, match="cannot compare"):
            nearest_neighbours(noise(2), references)
