import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.models.gan import DownBlock, Head, Networks, UpBlock

DCGAN = {  # of pytorch/examples, without biases
    "latent": 100,
    "channels": (512, 256, 128, 64),
    "discriminator_norm": "batch",
    "bias": False,
}
SNGAN = {  # Miyato et al. 2018, table 4, and their code, whose score has no bias
    "bias": False,
    "architecture": "resnet",
    "latent": 128,
    "channels": (256, 256, 256, 256),
    "discriminator_channels": (128, 128, 128, 128),
    "discriminator_halvings": 2,
}


def shaped(networks, batch=2):
    """Parameters and outputs of both networks, as shapes."""
    labels = jnp.zeros(batch, jnp.int32) if networks.num_classes else None
    inputs = jnp.zeros((batch, networks.latent)), jnp.zeros((batch, *networks.image_shape))

    def made(network, x):
        out, variables = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), x, labels))
        return out, variables["params"]

    return made(networks.generator(), inputs[0]), made(networks.discriminator(), inputs[1])


def sizes(networks):
    return [sum(leaf.size for leaf in jax.tree.leaves(params)) for _, params in shaped(networks)]


def test_dcgan_has_the_parameters_of_pytorchs_example():
    assert sizes(Networks((64, 64, 3), 0, **DCGAN)) == [3_576_704, 2_765_568]


def conv(width_in, width_out, side=3):
    return side * side * width_in * width_out + width_out


def test_sngan_has_the_layers_of_its_table():
    up = 2 * 2 * 256 + 2 * conv(256, 256) + conv(256, 256, 1)
    generator = (128 + 1) * 4 * 4 * 256 + 3 * up + 2 * 256 + conv(256, 3)
    first = conv(3, 128) + conv(128, 128) + conv(3, 128, 1)
    down, plain = 2 * conv(128, 128) + conv(128, 128, 1), 2 * conv(128, 128)
    discriminator = first + down + 2 * plain + 128
    assert sizes(Networks((32, 32, 3), 0, **SNGAN)) == [generator, discriminator] == [4_276_739, 1_053_824]
    assert sizes(Networks((32, 32, 3), 0, **(SNGAN | {"bias": True}))) == [generator, discriminator + 1]


def test_classes_add_a_scale_and_shift_to_every_norm_and_one_embedding():
    plain, conditional = (sizes(Networks((32, 32, 3), classes, **SNGAN)) for classes in (0, 10))
    assert conditional[0] - plain[0] == 6 * 2 * 256 * 9  # the two norms of each block; the last one has no classes
    assert conditional[1] - plain[1] == 10 * 128


@pytest.mark.parametrize(
    ("side", "settings"),
    [
        (28, {"channels": (32, 16), "discriminator_channels": (8, 16, 32, 32)}),  # 28, 14, 7, 4, 2
        (32, {"channels": (32, 16, 8)}),
        (64, {"channels": (1024, 512, 256, 128), "kernel": 5}),  # figure 1 of the DCGAN paper
        (28, {"architecture": "resnet", "channels": (16, 16, 16)}),
        (
            48,
            {
                "architecture": "resnet",
                "channels": (512, 256, 128, 64),
                "discriminator_channels": (64, 128, 256, 512, 1024),
            },
        ),
        (64, {"architecture": "resnet", "channels": (64, 64, 32, 16, 8)}),
    ],
)
def test_generated_images_have_the_size_of_the_data(side, settings):
    (images, params), (scores, _) = shaped(Networks((side, side, 1), 10, **settings))
    assert (images.shape, images.dtype) == ((2, side, side, 1), jnp.float32)
    assert (scores.shape, scores.dtype) == ((2,), jnp.float32)
    base = side >> len(settings["channels"]) - (settings.get("architecture") == "resnet")
    assert params["project"]["kernel"].shape[1] == base * base * settings["channels"][0]


@pytest.mark.parametrize("architecture", ["dcgan", "resnet"])
def test_a_large_epsilon_turns_every_batch_norm_off(architecture):
    """Then only the shift of the last norm is left: zeros, and an image of tanh(bias)."""
    networks = Networks((8, 8, 1), 0, architecture, 4, (8, 8), norm_epsilon=0.999)
    latents = 1e-6 * jax.random.normal(jax.random.key(0), (3, 4))
    generator = networks.generator()
    variables = generator.init(jax.random.key(1), latents)
    images, _ = generator.apply(variables, latents, None, lambda tree: tree, mutable=["batch_stats"])
    assert np.abs(images).max() < 1e-4
    small = Networks((8, 8, 1), 0, architecture, 4, (8, 8), norm_epsilon=1e-20).generator()
    images, _ = small.apply(variables, latents, None, lambda tree: tree, mutable=["batch_stats"])
    assert np.abs(images).max() > 1e-3


def test_the_class_adds_the_projection_of_the_features_on_its_embedding():
    features, head = jax.random.normal(jax.random.key(0), (5, 8)), Head(3, True, jax.nn.initializers.normal(1.0))
    variables = head.init(jax.random.key(1), features, jnp.zeros(5, jnp.int32))
    embedding = np.asarray(variables["params"]["label"]["embedding"])
    scores = [head.apply(variables, features, jnp.full(5, label)) for label in range(3)]
    np.testing.assert_allclose(scores[2] - scores[1], features @ (embedding[2] - embedding[1]), rtol=1e-4, atol=1e-5)
    no_class = {"params": {"score": variables["params"]["score"]}}
    wanted = Head(0, True, jax.nn.initializers.normal(1.0)).apply(no_class, features, None)
    np.testing.assert_allclose(scores[0] - features @ embedding[0], wanted, rtol=1e-4, atol=1e-5)


def test_blocks_with_zero_branches_double_and_halve_by_their_shortcut():
    """With silent branches and the identity as 1x1 convolution, blocks repeat and average pixels."""
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))

    def shortcut(block, *inputs):
        variables = block.init(jax.random.key(1), *inputs)
        silent = jax.tree.map(jnp.zeros_like, variables["params"])
        silent["shortcut"]["kernel"] = jnp.eye(3)[None, None]
        return block.apply(variables | {"params": silent}, *inputs)

    np.testing.assert_allclose(shortcut(UpBlock(3, 0, 0, jnp.float32), x, None, None), x.repeat(2, 1).repeat(2, 2))
    means = x.reshape(2, 2, 2, 3, 2, 3).mean((2, 4))
    np.testing.assert_allclose(shortcut(DownBlock(3, True, False, jnp.float32), x), means, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "settings", "words"),
    [
        ((30, 30, 1), {}, r"side 30 do not halve 2 times.*sizes that do: .*28, 32"),
        ((28, 30, 1), {}, "side 30"),
        (
            (28, 28, 1),
            {
                "architecture": "resnet",
                "channels": (8, 8),
                "discriminator_channels": (8,) * 3,
                "discriminator_halvings": 3,
            },
            "do not halve 3 times, as discriminator_channels",
        ),
        ((32, 32, 1), {"architecture": "vgg"}, "unknown architecture 'vgg'; there are dcgan, resnet"),
        ((32, 32, 1), {"discriminator_norm": "layer"}, "spectral, batch, none"),
        ((32, 32, 1), {"dtype": "float16"}, "float32, bfloat16"),
        ((32, 32, 1), {"channels": ()}, "at least 1"),
        ((32, 32, 1), {"latent": 0}, "at least 1"),
        ((32, 32, 1), {"norm_rows": -1}, "norm_rows"),
        ((32, 32, 1), {"norm_epsilon": 0.0}, "norm_epsilon"),
        ((32, 32, 1), {"architecture": "resnet", "discriminator_norm": "batch"}, "needs architecture=dcgan"),
        ((32, 32, 1), {"discriminator_halvings": 1}, "needs architecture=resnet"),
        ((32, 32, 1), {"architecture": "resnet", "channels": (8, 8), "discriminator_halvings": 3}, "as many"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(shape, settings, words):
    with pytest.raises(ValueError, match=words):
        Networks(shape, 0, **settings)


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_conditional_network_requires_labels(player):
    networks = Networks((8, 8, 1), 10, channels=(4,), latent=3)
    x = jnp.zeros((2, 3)) if player == "generator" else jnp.zeros((2, 8, 8, 1))
    with pytest.raises(ValueError, match="num_classes=10 got labels=False"):
        jax.eval_shape(getattr(networks, player)().init, jax.random.key(0), x)
