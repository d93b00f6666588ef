import jax
import jax.numpy as jnp
import pytest

from genmodels.models.vae import Autoencoder

MNIST = (28, 28, 1)


def size(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *model.image_shape)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_published_parameter_count():
    assert size(Autoencoder(MNIST, moments=2, learns_std=False)) == 652_824  # pytorch/examples, 784-400-20


def test_convolutions_have_the_stated_sizes():
    model = Autoencoder((16, 16, 3), 2, True, "conv", channels=(4, 8), blocks=1, latent_dim=5)
    block = 2 * (9 * 8 * 8 + 8) + 2 * 2 * 8
    encoder = (9 * 3 * 4 + 4) + (9 * 4 * 8 + 8) + block + 2 * 8 + (4 * 4 * 8 * 10 + 10)
    decoder = (5 * 128 + 128) + block + 2 * 8 + (9 * 8 * 16 + 16) + (9 * 4 * 12 + 12) + 1
    assert size(model) == encoder + decoder


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (64, 48, 3)])
@pytest.mark.parametrize("grid", [False, True])
def test_latents_and_images_have_their_shapes(shape, grid):
    model = Autoencoder(shape, 2, True, "conv", channels=(4, 8), blocks=1, latent_dim=6, grid=grid, dtype=jnp.bfloat16)
    assert model.latent_shape == ((shape[0] // 4, shape[1] // 4, 6) if grid else (6,))

    def run(x):
        variables = model.init(jax.random.key(0), x)
        moments = model.apply(variables, x, method="encode")
        return variables, moments, model.apply(variables, jnp.zeros((2, *model.latent_shape)), method="decode")

    variables, moments, decoded = jax.eval_shape(run, jnp.zeros((2, *shape)))
    assert moments.shape == (2, *model.latent_shape[:-1], 12)
    assert decoded.pixels.shape == (2, *shape)
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, moments, decoded))} == {jnp.dtype("float32")}


def test_image_sizes_that_do_not_halve_are_refused_and_one_that_does_is_suggested():
    with pytest.raises(ValueError, match=r"30x30 does not divide.*config\.data\.size=32"):
        Autoencoder((30, 30, 1), 2, False, "conv", channels=(4, 4, 4))
    Autoencoder((32, 32, 1), 2, False, "conv", channels=(4, 4, 4))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"network": "cnn"}, "unknown network 'cnn'; there are mlp, conv"),
        ({"grid": True}, "grid needs network=conv"),
        ({"hidden": ()}, "at least one width"),
        ({"latent_dim": 0}, "must be positive"),
        ({"activation": "gelu"}, "there are relu, tanh, swish"),
    ],
)
def test_invalid_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Autoencoder(MNIST, 2, False, **settings)
