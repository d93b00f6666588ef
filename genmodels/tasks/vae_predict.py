"""The predict functions of a trained autoencoder: samples, reconstructions, latents, paths and likelihoods.

The importance-weighted bound of K latents (Burda et al. 2016, eq. 8) is log mean_k w_k, w_k = p(x, z_k) / q(z_k | x),
z_k ~ q(z | x). It equals the ELBO at K = 1, and rises towards log p(x) with K.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from genmodels.core.rng import fold
from genmodels.diffusion.samplers import per_example_normal
from genmodels.losses import variational
from genmodels.nn import quantize
from genmodels.nn.interpolation import interpolate
from genmodels.tasks.base import Predict
from genmodels.tasks.vae_settings import LATENT_SALT, NETWORK, NOISE_SALT, Images, Keys, Model, PerExample

CODEBOOK = "codebook"
IMAGES_PER_DECODE = 2048  # about; the bounds decode this many images at once

ELBO_PROTOCOL = {"likelihood": "elbo", "meaning": "upper bound: negative ELBO, KL in closed form"}
IWAE_PROTOCOL = {
    "likelihood": "iwae",
    "meaning": "upper bound: negative importance-weighted bound of `samples` latents",
}
BINARIZED_PIXELS = {
    "none": "greys in [0, 1], whose cross-entropy is no likelihood",
    "dynamic": "black and white, drawn once an image",
}

Inputs = Mapping[str, Array]
Latents = Float[Array, "batch ..."]
Weights = Float[Array, "batch draws"]


class RunningBound(NamedTuple):
    """The draws so far: the largest log weight, the sum of exp(log weight - largest), the sum of -log p(x | z)."""

    largest: PerExample
    total: PerExample
    distortion: PerExample

    def add(self, log_weights: Weights, distortion: Weights) -> "RunningBound":
        """With more draws; a log weight of -inf does not count."""
        largest = jnp.maximum(self.largest, log_weights.max(axis=1))
        total = self.total * jnp.exp(self.largest - largest) + jnp.sum(jnp.exp(log_weights - largest[:, None]), axis=1)
        return RunningBound(largest, total, self.distortion + jnp.sum(distortion, axis=1))


@dataclasses.dataclass(frozen=True, eq=False)
class VAEFunctions:
    """The predict functions of an autoencoder; their common arguments are those of `Predict.fn`."""

    model: Model

    def encode_mean(self, variables: Any, images: Images) -> tuple[Latents, dict[str, Array]]:
        """The mean of each image's latent, or its quantised latent with its codes as "code".

        Binarising models encode greys, the mean of the binarised images.
        """
        target = images if self.model.settings.likelihood == "gaussian" else (images + 1) / 2
        latents = self.model.encode(variables["params"][NETWORK], target)[0]
        if self.model.settings.latent != "vq":
            return latents, {}
        vectors = variables["extra"][CODEBOOK].vectors
        codes = quantize.nearest(vectors, latents.reshape(-1, latents.shape[-1])).reshape(latents.shape[:-1])
        return vectors[codes], {"code": codes}

    def decode_image(self, variables: Any, latents: Latents) -> Images:
        """The mean image of each latent."""
        return self.model.image(self.model.decode(variables["params"][NETWORK], latents))

    def sample(self, variables: Any, frozen: Any, inputs: Inputs, dist: Any) -> dict[str, Array]:
        """One image for each key, from a standard normal latent."""
        latents = per_example_normal(inputs["key"], LATENT_SALT, self.model.network.latent_shape)
        return {"image": self.decode_image(variables, latents)}

    def encode(self, variables: Any, frozen: Any, inputs: Inputs, dist: Any) -> dict[str, Array]:
        """The latent of each image, see `encode_mean`."""
        latents, codes = self.encode_mean(variables, inputs["image"])
        return {"latent": latents} | codes

    def reconstruct(
        self, variables: Any, frozen: Any, inputs: Inputs, dist: Any, *, noise: float = 0.0
    ) -> dict[str, Array]:
        """Each image decoded from its latent; with `noise`, from that of the noisy image "seen"."""
        if not noise:
            return {"image": self.decode_image(variables, self.encode_mean(variables, inputs["image"])[0])}
        seen = inputs["image"] + noise * per_example_normal(inputs["key"], NOISE_SALT, inputs["image"].shape[1:])
        return {"image": self.decode_image(variables, self.encode_mean(variables, seen)[0]), "seen": seen}

    def interpolate(
        self, variables: Any, frozen: Any, inputs: Inputs, dist: Any, *, frames: int, kind: str
    ) -> dict[str, Array]:
        """`frames` images on the path between the latents of the images "a" and "b"."""
        latents = (self.encode_mean(variables, inputs[side])[0] for side in "ab")
        start, end = (latent.reshape(len(latent), -1) for latent in latents)
        path = interpolate(kind, start, end, frames).reshape(-1, *self.model.network.latent_shape)
        images = self.decode_image(variables, path)
        return {"frames": images.reshape(-1, frames, *images.shape[1:])}

    def log_weights(
        self,
        params: Any,
        target: Images,
        moments: tuple[Latents, ...],
        keys: Keys,
        draws: Integer[Array, " draws"],
    ) -> tuple[Weights, Weights]:
        """log w_k and -log p(x | z_k) of each image, for the draws k with these numbers.

        Args:
          moments: (mean, log variance) of the images' latents.
        """
        mean, log_variance = moments
        noise = jax.vmap(lambda draw: per_example_normal(keys, draw, mean.shape[1:]), out_axes=1)(draws)
        z = mean[:, None] + jnp.exp(0.5 * log_variance)[:, None] * noise
        decoded = self.model.decode(params, z.reshape(-1, *mean.shape[1:]))
        nll = self.model.nll(jnp.repeat(target, len(draws), axis=0), decoded).reshape(len(target), len(draws))
        axes = tuple(range(2, z.ndim))
        prior = jnp.sum(variational.normal_log_prob(z), axis=axes)
        posterior = jnp.sum(variational.normal_log_prob(noise) - 0.5 * log_variance[:, None], axis=axes)
        return prior - posterior - nll, nll

    def importance_weighted(
        self, variables: Any, inputs: Inputs, samples: int
    ) -> tuple[PerExample, PerExample, tuple[Latents, ...]]:
        """The importance-weighted bound of `samples` latents, the mean of -log p(x | z), and the latents' moments.

        Raises:
          ValueError: `samples` is less than 1.
        """
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        params = variables["params"][NETWORK]
        target = self.model.target(inputs["image"], inputs["key"])
        moments = self.model.encode(params, target)
        rows, keys = len(target), fold(inputs["key"], LATENT_SALT)
        chunk = max(1, min(samples, IMAGES_PER_DECODE // rows))

        def add_chunk(bound, start):
            draws = start + jnp.arange(chunk)
            log_weights, nll = self.log_weights(params, target, moments, keys, draws)
            valid = draws < samples  # the last chunk may have too many
            return bound.add(jnp.where(valid, log_weights, -jnp.inf), jnp.where(valid, nll, 0)), None

        start = RunningBound(jnp.full(rows, -jnp.inf), jnp.zeros(rows), jnp.zeros(rows))
        bound, _ = jax.lax.scan(add_chunk, start, jnp.arange(0, samples, chunk))
        return bound.largest + jnp.log(bound.total / samples), bound.distortion / samples, moments

    def in_units(self, log_likelihood: PerExample, **parts: PerExample) -> dict[str, Array]:
        """-log_likelihood as "nll": bits per dimension of grey levels, nats of black and white; then the other unit."""
        bits = -log_likelihood / (self.model.dims * np.log(2))
        if self.model.settings.likelihood == "gaussian":
            return {"nll": bits, "nats": -log_likelihood} | parts
        return {"nll": -log_likelihood, "bits_per_dim": bits} | parts

    def elbo(self, variables: Any, frozen: Any, inputs: Inputs, dist: Any, *, samples: int) -> dict[str, Array]:
        """The negative ELBO of each image: reconstruction as a mean over `samples` latents, KL in closed form."""
        _, distortion, moments = self.importance_weighted(variables, inputs, samples)
        kl = jnp.sum(variational.kl_to_standard_normal(*moments).reshape(len(distortion), -1), axis=1)
        return self.in_units(-distortion - kl, reconstruction=distortion, kl=kl)

    def iwae(self, variables: Any, frozen: Any, inputs: Inputs, dist: Any, *, samples: int) -> dict[str, Array]:
        """The negative importance-weighted bound of each image, of `samples` latents."""
        return self.in_units(self.importance_weighted(variables, inputs, samples)[0])

    def by_name(self) -> dict[str, Predict]:
        """The predict functions by name; `sample` and the likelihoods only where latents have a distribution."""
        path = {"frames": 8, "kind": "spherical"}
        shows = {"image": "their reconstructions"}
        functions = {
            "reconstruct": Predict(self.reconstruct, ("image",), "image", title="Reconstructions", shows=shows),
            "encode": Predict(self.encode, ("image",), "latent", numbers=("latent",)),
            "interpolate": Predict(
                self.interpolate,
                ("a", "b"),
                "frames",
                options=path,
                title="Interpolation between latents",
                shows={"frames": "the way from one image to another"},
            ),
        }
        if self.model.settings.noise:
            functions["reconstruct"] = Predict(
                self.reconstruct,
                ("key", "image"),
                "image",
                options={"noise": self.model.settings.noise},
                protocol={"denoising": True},
                title="Reconstructions",
                shows={"seen": "with the noise that the encoder sees"} | shows,
            )
        if self.model.settings.latent == "gaussian":
            functions["sample"] = Predict(self.sample, ("key",), "image")
            for name, samples, protocol in (("elbo", 1, ELBO_PROTOCOL), ("iwae", 500, IWAE_PROTOCOL)):
                options, protocol = {"samples": samples}, self._pixel_protocol() | protocol
                fn = getattr(self, name)
                functions[name] = Predict(fn, ("key", "image"), "nll", options=options, protocol=protocol)
        return functions

    def _pixel_protocol(self) -> dict[str, Any]:
        """The unit of the likelihoods, and the pixels that they are likelihoods of."""
        if self.model.settings.likelihood == "gaussian":
            return {"unit": "bits/dim", "levels": 256, "given": "nothing"}
        return {"unit": "nats", "pixels": BINARIZED_PIXELS[self.model.settings.binarize], "given": "nothing"}
