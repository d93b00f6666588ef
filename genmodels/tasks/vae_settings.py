"""The section `config.vae`, and the model that it describes: the distributions of the pixels and of the latents."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from genmodels.diffusion.bound import discretized_gaussian_nll
from genmodels.errors import choose
from genmodels.losses import variational
from genmodels.models.vae import Decoded

NETWORK = "autoencoder"
LIKELIHOODS = ("bernoulli", "gaussian")
LATENTS = ("gaussian", "none", "vq")
# An example's key is folded with one of these for everything that is random about the example.
PIXEL_SALT, LATENT_SALT, NOISE_SALT = range(3)

Images = Float[Array, "batch height width channel"]
PerExample = Float[Array, " batch"]
Keys = Key[Array, " batch"]


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """`config.vae`: variational (Kingma & Welling 2014), plain and vector-quantised autoencoders.

    Attributes:
      likelihood: of pixels: "bernoulli" on [0, 1]; "gaussian": the mass of one of 256 grey levels under a normal
        distribution whose standard deviation, one for all pixels, is learned (Rybkin et al. 2021).
      binarize: of bernoulli: "none" takes greys as they are, "dynamic" draws black and white pixels for every use
        (Burda et al. 2016).
      latent: "gaussian" is the VAE, "none" the plain autoencoder, "vq" quantises (van den Oord et al. 2017).
      beta: weight of the KL (Higgins et al. 2017).
      kl_warmup: steps over which the weight of the KL rises from 0.
      free_bits: nats of each latent dimension that cost nothing, of the batch's mean (Kingma et al. 2016).
      noise: standard deviation of noise on the encoder's image in [-1, 1] (denoising: Vincent et al. 2008).
      codebook_size: of vq: vectors in the codebook.
      codebook_decay: of vq: decay, at each step, of the running means that the codebook's vectors are.
      commitment: of vq: weight of the squared distance between the encoder's output and its code.
      revive_below: of vq: a code used less than this share of the mean use is replaced by a latent of the batch.
    """

    likelihood: str = "bernoulli"
    binarize: str = "none"
    latent: str = "gaussian"
    beta: float = 1.0
    kl_warmup: int = 0
    free_bits: float = 0.0
    noise: float = 0.0
    codebook_size: int = 256
    codebook_decay: float = 0.99
    commitment: float = 0.25
    revive_below: float = 0.05

    def __post_init__(self):
        choose("config.vae.likelihood", self.likelihood, LIKELIHOODS)
        choose("config.vae.binarize", self.binarize, ("none", "dynamic"))
        choose("config.vae.latent", self.latent, LATENTS)
        if self.binarize != "none" and self.likelihood != "bernoulli":
            raise ValueError(f"binarize={self.binarize} makes black and white images: set likelihood=bernoulli")
        for name in ("beta", "kl_warmup", "free_bits", "noise", "commitment", "revive_below"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must be finite and not negative")
        if self.codebook_size < 2 or not 0 < self.codebook_decay < 1 or not self.revive_below < 1:
            raise ValueError("codebook_size must be at least 2, codebook_decay within (0, 1) and revive_below below 1")


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A network, and the distributions that its outputs are parameters of.

    Images are in [-1, 1]; `params` are the parameters of the network.

    Attributes:
      network: an `Autoencoder`, or any module with its attributes and its methods `encode` and `decode`.
    """

    network: Any
    settings: VAEConfig

    @property
    def dims(self) -> int:
        """The number of dimensions of an image: height x width x channels."""
        return math.prod(self.network.image_shape)

    def target(self, images: Images, keys: Keys) -> Images:
        """The pixels that the decoder models: greys in [0, 1] or black and white for Bernoulli, else the images."""
        if self.settings.likelihood == "gaussian":
            return images
        greys = (images + 1) / 2
        if self.settings.binarize == "none":
            return greys
        draw = jax.vmap(lambda key, grey: jax.random.bernoulli(jax.random.fold_in(key, PIXEL_SALT), grey, grey.shape))
        return draw(keys, greys).astype(jnp.float32)

    def encode(self, params: Any, target: Images) -> tuple[Array, ...]:
        """(mean, log variance) of the latents, or (latents,) of a model without a distribution of latents."""
        moments = self.network.apply({"params": params}, target, method="encode")
        return tuple(jnp.split(moments, self.network.moments, axis=-1))

    def decode(self, params: Any, latent: Float[Array, "batch ..."]) -> Decoded:
        """The parameters of the pixels' distribution, see `models.vae`."""
        return self.network.apply({"params": params}, latent, method="decode")

    def nll(self, target: Images, decoded: Decoded) -> PerExample:
        """-log p(target | latent) of each image, in nats."""
        if decoded.log_std is None:
            nats = variational.bernoulli_nll(target, decoded.pixels)
        else:
            nats = discretized_gaussian_nll(target, decoded.pixels, decoded.log_std)
        return jnp.sum(nats, axis=(1, 2, 3))

    def image(self, decoded: Decoded) -> Images:
        """The mean of the decoder's distribution, in [-1, 1]."""
        return decoded.pixels if decoded.log_std is not None else 2 * jax.nn.sigmoid(decoded.pixels) - 1
