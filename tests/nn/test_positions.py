import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from genmodels.nn.positions import PatchEmbedding, resize_positions, sincos_2d


def test_a_token_is_a_linear_map_of_its_own_patch():
    x = jax.random.normal(jax.random.key(0), (2, 6, 4, 3))
    layer = PatchEmbedding(2, 5, jnp.float32)
    variables = layer.init(jax.random.key(1), x)
    tokens = layer.apply(variables, x)
    projection = variables["params"]["projection"]
    by_hand = jnp.tensordot(x[1, 4:6, 2:4], projection["kernel"], 3) + projection["bias"]
    assert tokens.shape == (2, 3, 2, 5)
    np.testing.assert_allclose(tokens[1, 2, 1], by_hand, atol=1e-5)
    moved = layer.apply(variables, x.at[1, 4, 2].add(1.0))
    assert np.argwhere(np.abs(moved - tokens).max(-1) > 1e-6).tolist() == [[1, 2, 1]]


@pytest.mark.parametrize(
    ("size", "patch", "fit"), [((8, 8), 3, "1, 2, 4, 8"), ((12, 8), 8, "1, 2, 4"), ((8, 8), 0, "1")]
)
def test_patch_sizes_that_do_not_tile_are_refused_and_those_that_do_are_listed(size, patch, fit):
    with pytest.raises(ValueError, match=rf"patch_size={patch} does not divide images of {size[0]}x{size[1]}.*: {fit}"):
        jax.eval_shape(PatchEmbedding(patch, 4, jnp.float32).init, jax.random.key(0), jnp.zeros((1, *size, 1)))


def test_sincos_positions_are_those_of_mae():
    """The formulas of its get_2d_sincos_pos_embed, written out in numpy."""
    rows, columns, width = 3, 5, 16
    omega = 1 / 10000 ** (np.arange(width // 4) / (width / 4))
    found = sincos_2d(rows, columns, width)
    for row in range(rows):
        for column in range(columns):
            wanted = [f(place * omega) for place in (column, row) for f in (np.sin, np.cos)]
            np.testing.assert_allclose(found[row, column], np.concatenate(wanted), atol=1e-6)
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_2d(2, 2, 10)


def test_resized_positions_keep_constants_and_use_the_cubic_weights_of_torch():
    grid = jax.random.normal(jax.random.key(0), (4, 6, 3))
    np.testing.assert_allclose(resize_positions(grid, 4, 6), grid, atol=1e-6)
    np.testing.assert_allclose(resize_positions(jnp.ones((4, 4, 2)), 7, 9), 1, atol=1e-6)
    impulse = jnp.zeros((8, 1, 1)).at[3].set(1.0)
    doubled = resize_positions(impulse, 16, 1)[:, 0, 0]  # the taps of a = -0.75 at a quarter and at three quarters
    wanted = [0, -0.03515625, -0.10546875, 0.26171875, 0.87890625, 0.87890625, 0.26171875, -0.10546875, -0.03515625, 0]
    np.testing.assert_allclose(doubled[2:12], wanted, atol=1e-6)
    edge = resize_positions(jnp.zeros((8, 1, 1)).at[0].set(1.0), 16, 1)[:2, 0, 0]
    np.testing.assert_allclose(edge, [1 + 0.10546875, 0.87890625 - 0.10546875], atol=1e-6)


@pytest.mark.parametrize("size", [(24, 24), (14, 14), (7, 9), (1, 30)])
def test_linearly_resized_positions_are_those_of_scipy(size):
    """As the code of ViT's authors resizes them: `scipy.ndimage.zoom` of order 1."""
    grid = np.random.default_rng(0).normal(size=(14, 14, 5)).astype(np.float32)
    wanted = ndimage.zoom(grid, (size[0] / 14, size[1] / 14, 1), order=1)
    np.testing.assert_allclose(resize_positions(grid, *size, "linear"), wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(24, 24), (7, 9), (14, 30)])
def test_resized_positions_are_those_of_torch(size):
    torch = pytest.importorskip("torch")
    grid = np.random.default_rng(0).normal(size=(14, 14, 5)).astype(np.float32)
    asked = torch.from_numpy(grid).permute(2, 0, 1)[None]
    theirs = torch.nn.functional.interpolate(asked, size, mode="bicubic", align_corners=False)[0].permute(1, 2, 0)
    np.testing.assert_allclose(resize_positions(grid, *size), theirs.numpy(), atol=1e-5)
