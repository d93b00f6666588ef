"""Reconstructions of held-out images, compared with the originals.

An autoencoder encodes and decodes the image. A denoiser adds the noise of a given timestep and predicts x0 in one step.
"""

import functools
from collections.abc import Iterator

from genmodels.evaluators.base import Context, Result
from genmodels.evaluators.pairs import pair_results


def _reconstructions(name: str, context: Context) -> Iterator[Result]:
    reference = context.require_images("reference")
    originals = reference.gathered()
    inputs = {"image": originals}
    if context.conditional:
        inputs["label"] = reference.require_labels()
    calls = [("denoise", {"timestep": timestep}, {"reconstruction": "one step"}) for timestep in context.timesteps]
    if "reconstruct" in context.functions:
        function = context.functions["reconstruct"]
        calls = [("reconstruct", dict(function.options), {"reconstruction": "latent", **function.protocol})]
    for function, options, entries in calls:
        images = context.call(function, len(reference), inputs, **options)["image"]
        protocol = {**context.protocol, **reference.origin, **entries, **options}
        yield from pair_results(name, images, originals, protocol, context.options)


# Each measures the metric of its name: once for an autoencoder, at each of `context.timesteps` for a denoiser.
psnr, ssim, ms_ssim, lpips = (
    functools.partial(_reconstructions, name) for name in ("psnr", "ssim", "ms_ssim", "lpips")
)
