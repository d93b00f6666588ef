"""The networks of a GAN with their state, and the predict functions of a trained one: samples, paths and scores."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key

from genmodels.core.rng import fold
from genmodels.models.gan import Networks
from genmodels.nn import spectral_norm
from genmodels.nn.batch_norm import COLLECTION
from genmodels.nn.interpolation import interpolate
from genmodels.tasks.base import Predict

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
SPECTRAL = "spectral"  # the singular vectors of a discriminator's kernels, in the state's `extra`
# An example's key is folded with one of these for the latent of its image and for the one at the end of its path.
LATENT_SALT, PATH_END_SALT = range(2)

Labels = Integer[Array, " batch"] | None
Images = Float[Array, "batch height width channel"]
Latents = Float[Array, "batch latent"]
BatchStatistics = Mapping[str, Any]  # {COLLECTION: the statistics of this batch}; {} for a network without batch norm


@dataclasses.dataclass(frozen=True, eq=False)
class GANNetworks:
    """Both networks of a GAN. `extra` is what the state's `extra` holds for the network that is called.

    Attributes:
      settings: `config.model`.
    """

    settings: Networks

    def latents(self, keys: Key[Array, " batch"]) -> Latents:
        """Standard normal latents, each from its own key."""
        return jax.vmap(lambda key: jax.random.normal(key, (self.settings.latent,)))(keys)

    def generate(self, params: Any, extra: Mapping[str, Any], latents: Latents, labels: Labels) -> Images:
        """The images of these latents, by the averaged batch statistics."""
        variables = {"params": params} | dict(extra)
        images: Any = self.settings.generator().apply(variables, latents, self._condition(labels))
        return images

    def generate_batch(
        self, params: Any, extra: Mapping[str, Any], latents: Latents, labels: Labels, mean: Callable
    ) -> tuple[Images, BatchStatistics]:
        """The images of these latents by the batch's own statistics, and these statistics; `mean` is `dist.mean`."""
        variables = {"params": params} | dict(extra)
        return self.settings.generator().apply(variables, latents, self._condition(labels), mean, mutable=[COLLECTION])

    def score(
        self, params: Any, extra: Mapping[str, Any], images: Images, labels: Labels, mean: Callable | None = None
    ) -> tuple[Float[Array, " batch"], BatchStatistics]:
        """The score of each image, higher for more real, and the batch statistics.

        With `mean`, which is `dist.mean`, the network uses the batch's own statistics, else the averaged ones.
        """
        extra = dict(extra)
        if self.settings.discriminator_norm == SPECTRAL:
            params = spectral_norm.normalized(params, extra.pop(SPECTRAL))
        return self.settings.discriminator().apply(
            {"params": params} | extra, images, self._condition(labels), mean, mutable=[COLLECTION]
        )

    def _condition(self, labels: Labels) -> Labels:
        return labels if self.settings.num_classes else None


@dataclasses.dataclass(frozen=True, eq=False)
class GANFunctions:
    """The predict functions of a GAN; their arguments are those of `Predict.fn`.

    Image i of a seed is determined by the latent of its key, whatever else is in the batch.
    """

    networks: GANNetworks

    def draw(self, variables: Any, latents: Latents, labels: Labels) -> Images:
        """The trained generator's images of these latents."""
        params, extra = variables["params"][GENERATOR], variables["extra"][GENERATOR]
        return self.networks.generate(params, extra, latents, labels)

    def sample(self, variables: Any, frozen: Any, inputs: Mapping[str, Array], dist: Any) -> dict[str, Array]:
        """One image for each key."""
        latents = self.networks.latents(fold(inputs["key"], LATENT_SALT))
        return {"image": self.draw(variables, latents, inputs.get("label"))}

    def interpolate(
        self, variables: Any, frozen: Any, inputs: Mapping[str, Array], dist: Any, *, frames: int, kind: str
    ) -> dict[str, Array]:
        """A path of `frames` images for each key: from the image of `sample` to another one of the same label."""
        start = self.networks.latents(fold(inputs["key"], LATENT_SALT))
        end = self.networks.latents(fold(inputs["key"], PATH_END_SALT))
        path = interpolate(kind, start, end, frames)
        labels = inputs.get("label")
        labels = None if labels is None else jnp.repeat(labels, frames)
        images = self.draw(variables, path.reshape(-1, path.shape[-1]), labels)
        return {"frames": images.reshape(-1, frames, *images.shape[1:])}

    def discriminate(self, variables: Any, frozen: Any, inputs: Mapping[str, Array], dist: Any) -> dict[str, Array]:
        """The trained discriminator's score of each image."""
        params, extra = variables["params"][DISCRIMINATOR], variables["extra"][DISCRIMINATOR]
        return {"score": self.networks.score(params, extra, inputs["image"], inputs.get("label"))[0]}

    def by_name(self) -> dict[str, Predict]:
        """The predict functions by name."""
        label, path = ("label",) if self.networks.settings.num_classes else (), {"frames": 8, "kind": "spherical"}
        return {
            "sample": Predict(self.sample, ("key", *label), "image"),
            "interpolate": Predict(
                self.interpolate,
                ("key", *label),
                "frames",
                options=path,
                title="Interpolation between latents",
                shows={"frames": "the way from one sample to another"},
            ),
            "discriminate": Predict(self.discriminate, ("image", *label), "score"),
        }
