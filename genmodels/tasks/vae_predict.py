"""What a trained autoencoder can do: draw, reconstruct, encode, interpolate, and say how likely an image is.

The importance-weighted bound of K latents (Burda et al. 2016, eq. 8) is log mean_k w_k, w_k = p(x, z_k) / q(z_k | x),
z_k ~ q(z | x): the ELBO at K = 1, and closer to log p(x) from below with every K.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genmodels.diffusion.samplers import per_example_normal
from genmodels.losses import variational
from genmodels.nn import quantize
from genmodels.nn.interpolation import interpolate as between
from genmodels.tasks.base import Predict
from genmodels.tasks.vae_settings import LATENT, NETWORK, NOISE, Model

CODEBOOK = "codebook"
ROWS = 2048  # images decoded at once for the bounds, about


def predict_functions(model: Model) -> dict[str, Predict]:
    """The predict functions, by name: those that this kind of autoencoder has."""
    settings, network = model.settings, model.network
    gaussian = settings.likelihood == "gaussian"

    def plain(images):
        """The encoder's view of images without a draw: greys are what binarised images are on average."""
        return images if gaussian else (images + 1) / 2

    def latents_of(variables, images):
        """Means or values of the latents, quantised where the model does that, and the codes."""
        found = model.encode(variables["params"][NETWORK], plain(images))[0]
        if settings.latent != "vq":
            return found, {}
        vectors = variables["extra"][CODEBOOK].vectors
        codes = quantize.nearest(vectors, found.reshape(-1, network.latent_dim)).reshape(found.shape[:-1])
        return vectors[codes], {"code": codes}

    def drawn(variables, latents):
        return model.image(model.decode(variables["params"][NETWORK], latents))

    def sample(variables, frozen, inputs, dist):
        return {"image": drawn(variables, per_example_normal(inputs["key"], LATENT, network.latent_shape))}

    def encode(variables, frozen, inputs, dist):
        latents, codes = latents_of(variables, inputs["image"])
        return {"latent": latents} | codes

    def reconstruct(variables, frozen, inputs, dist, *, noise=0.0):
        if not noise:
            return {"image": drawn(variables, latents_of(variables, inputs["image"])[0])}
        seen = inputs["image"] + noise * per_example_normal(inputs["key"], NOISE, inputs["image"].shape[1:])
        return {"image": drawn(variables, latents_of(variables, seen)[0]), "seen": seen}

    def interpolate(variables, frozen, inputs, dist, *, frames, kind):
        ends = [latents_of(variables, inputs[side])[0] for side in "ab"]
        flat = [end.reshape(len(end), -1) for end in ends]
        path = between(kind, *flat, frames).reshape(-1, *network.latent_shape)
        images = drawn(variables, path)
        return {"frames": images.reshape(-1, frames, *images.shape[1:])}

    def bound(variables, frozen, inputs, dist, *, samples):
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        params, keys = variables["params"][NETWORK], inputs["key"]
        target = model.target(inputs["image"], keys)
        mean, log_variance = model.encode(params, target)
        rows, keys = len(target), jax.vmap(jax.random.fold_in, (0, None))(keys, LATENT)
        chunk = max(1, min(samples, ROWS // rows))

        def one(carry, start):
            order = start + jnp.arange(chunk)
            noise = jax.vmap(lambda draw: per_example_normal(keys, draw, mean.shape[1:]), out_axes=1)(order)
            z = mean[:, None] + jnp.exp(0.5 * log_variance)[:, None] * noise
            decoded = model.decode(params, z.reshape(-1, *mean.shape[1:]))
            nll = model.nll(jnp.repeat(target, chunk, axis=0), decoded).reshape(rows, chunk)
            axes = tuple(range(2, z.ndim))
            prior = jnp.sum(variational.normal_log_prob(z), axis=axes)
            posterior = jnp.sum(variational.normal_log_prob(noise) - 0.5 * log_variance[:, None], axis=axes)
            weights = jnp.where(order < samples, prior - posterior - nll, -jnp.inf)
            largest, total, distortion = carry
            new = jnp.maximum(largest, weights.max(axis=1))
            total = total * jnp.exp(largest - new) + jnp.sum(jnp.exp(weights - new[:, None]), axis=1)
            return (new, total, distortion + jnp.sum(jnp.where(order < samples, nll, 0), axis=1)), None

        start = (jnp.full(rows, -jnp.inf), jnp.zeros(rows), jnp.zeros(rows))
        (largest, total, distortion), _ = jax.lax.scan(one, start, jnp.arange(0, samples, chunk))
        return largest + jnp.log(total / samples), distortion / samples, (mean, log_variance)

    def in_units(log_likelihood, **parts):
        bits = -log_likelihood / (model.dims * np.log(2))
        nll, other = (bits, {"nats": -log_likelihood}) if gaussian else (-log_likelihood, {"bits_per_dim": bits})
        return {"nll": nll} | other | parts

    def elbo(variables, frozen, inputs, dist, *, samples):
        _, distortion, moments = bound(variables, frozen, inputs, dist, samples=samples)
        kl = jnp.sum(variational.kl_to_standard_normal(*moments).reshape(len(distortion), -1), axis=1)
        return in_units(-distortion - kl, reconstruction=distortion, kl=kl)

    def iwae(variables, frozen, inputs, dist, *, samples):
        return in_units(bound(variables, frozen, inputs, dist, samples=samples)[0])

    path = {"frames": 8, "kind": "spherical"}
    between_images = {
        "title": "Interpolation between latents",
        "shows": {"frames": "the way from one image to another"},
    }
    seen = {"seen": "with the noise that the encoder sees"} if settings.noise else {}
    pictured = {"title": "Reconstructions", "shows": seen | {"image": "their reconstructions"}}
    functions = {
        "reconstruct": Predict(reconstruct, ("image",), "image", **pictured),
        "encode": Predict(encode, ("image",), "latent", numbers=("latent",)),
        "interpolate": Predict(interpolate, ("a", "b"), "frames", options=path, **between_images),
    }
    if settings.noise:
        functions["reconstruct"] = Predict(
            reconstruct,
            ("key", "image"),
            "image",
            options={"noise": settings.noise},
            protocol={"denoising": True},
            **pictured,
        )
    if settings.latent == "gaussian":
        given = _protocol(settings)
        functions |= {
            "sample": Predict(sample, ("key",), "image"),
            "elbo": Predict(elbo, ("key", "image"), "nll", options={"samples": 1}, protocol=given | ELBO),
            "iwae": Predict(iwae, ("key", "image"), "nll", options={"samples": 500}, protocol=given | IWAE),
        }
    return functions


ELBO = {"likelihood": "elbo", "meaning": "upper bound: negative ELBO, KL in closed form"}
IWAE = {"likelihood": "iwae", "meaning": "upper bound: negative importance-weighted bound of `samples` latents"}


def _protocol(settings: Any) -> dict[str, Any]:
    """What the pixels are in the likelihoods."""
    if settings.likelihood == "gaussian":
        return {"unit": "bits/dim", "levels": 256, "given": "nothing"}
    pixels = {
        "none": "greys in [0, 1], whose cross-entropy is no likelihood",
        "dynamic": "black and white, drawn once an image",
    }
    return {"unit": "nats", "pixels": pixels[settings.binarize], "given": "nothing"}
