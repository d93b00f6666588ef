"""What a trained GAN can do: draw samples, walk between two of them, and score images."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key

from genmodels.models.gan import Networks
from genmodels.nn import spectral_norm
from genmodels.nn.batch_norm import COLLECTION
from genmodels.nn.interpolation import interpolate
from genmodels.tasks.base import Predict

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
SPECTRAL = "spectral"  # a discriminator's singular vectors, in the state's `extra`

Labels = Integer[Array, " batch"] | None
Images = Float[Array, "batch height width channel"]
Seen = dict[str, Any]  # {COLLECTION: statistics of the batch}


@dataclasses.dataclass(frozen=True, eq=False)
class GANNetworks:
    """Both networks, called with what the state carries for them in `extra`."""

    networks: Networks

    def latents(self, keys: Key[Array, " batch"]) -> Float[Array, "batch latent"]:
        """Standard normal, each from its own key."""
        return jax.vmap(lambda key: jax.random.normal(key, (self.networks.latent,)))(keys)

    def generate(self, params: Any, extra: Mapping[str, Any], latents: Any, labels: Labels) -> Images:
        """Images by averaged batch statistics."""
        return self.networks.generator().apply({"params": params} | dict(extra), latents, self._asked(labels))

    def generate_batch(
        self, params: Any, extra: Mapping[str, Any], latents: Any, labels: Labels, mean: Callable
    ) -> tuple[Images, Seen]:
        """Images by the batch's own statistics, and these."""
        variables = {"params": params} | dict(extra)
        return self.networks.generator().apply(variables, latents, self._asked(labels), mean, mutable=[COLLECTION])

    def score(
        self, params: Any, extra: Mapping[str, Any], images: Images, labels: Labels, mean: Callable | None = None
    ) -> tuple[Float[Array, " batch"], Seen]:
        """Scores, by batch statistics where `mean` is given, and these; {} where the network has no batch norm."""
        extra = dict(extra)
        if self.networks.discriminator_norm == SPECTRAL:
            params = spectral_norm.normalized(params, extra.pop(SPECTRAL))
        return self.networks.discriminator().apply(
            {"params": params} | extra, images, self._asked(labels), mean, mutable=[COLLECTION]
        )

    def _asked(self, labels: Labels) -> Labels:
        return labels if self.networks.num_classes else None


def predict_functions(gan: GANNetworks) -> dict[str, Predict]:
    """`sample`, `interpolate` and `discriminate`.

    Image i of a seed comes from the latent of its key, whatever else is in the batch; `interpolate` starts at that
    image and ends at another of the same label.
    """

    def drawn(variables, latents, labels):
        params, extra = variables["params"][GENERATOR], variables["extra"][GENERATOR]
        return gan.generate(params, extra, latents, labels)

    def sample(variables, frozen, inputs, dist):
        return {"image": drawn(variables, gan.latents(inputs["key"]), inputs.get("label"))}

    def walk(variables, frozen, inputs, dist, frames, kind):
        others = jax.vmap(jax.random.fold_in, (0, None))(inputs["key"], 1)
        ends = gan.latents(inputs["key"]), gan.latents(others)
        path = interpolate(kind, *ends, frames)
        labels = inputs.get("label")
        labels = None if labels is None else jnp.repeat(labels, frames)
        images = drawn(variables, path.reshape(-1, path.shape[-1]), labels)
        return {"frames": images.reshape(-1, frames, *images.shape[1:])}

    def discriminate(variables, frozen, inputs, dist):
        params, extra = variables["params"][DISCRIMINATOR], variables["extra"][DISCRIMINATOR]
        return {"score": gan.score(params, extra, inputs["image"], inputs.get("label"))[0]}

    asked = ("label",) if gan.networks.num_classes else ()
    return {
        "sample": Predict(sample, ("key", *asked), "image"),
        "interpolate": Predict(
            walk,
            ("key", *asked),
            "frames",
            options={"frames": 8, "kind": "spherical"},
            title="Interpolation between latents",
            shows={"frames": "the way from one sample to another"},
        ),
        "discriminate": Predict(discriminate, ("image", *asked), "score"),
    }
