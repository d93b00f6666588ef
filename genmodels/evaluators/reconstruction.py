"""Reconstructions of held-out images, compared in pairs: by an autoencoder, or by a denoiser in one step.

The one step: noise an image to a stated timestep, predict x0 at once.
"""

import functools
from collections.abc import Iterator

from genmodels.evaluators.base import Context, Result
from genmodels.evaluators.pairs import pair_results


def _reconstructions(name: str, context: Context) -> Iterator[Result]:
    reference = context.reference
    inputs = {"image": reference.images}
    if context.conditional:
        inputs["label"] = reference.labels
    ways = [("denoise", {"timestep": timestep}, {"reconstruction": "one step"}) for timestep in context.timesteps]
    if "reconstruct" in context.functions:
        function = context.functions["reconstruct"]
        ways = [("reconstruct", dict(function.options), {"reconstruction": "latent", **function.protocol})]
    for function, options, meaning in ways:
        images = context.predict(function, len(reference), inputs, seed=context.seed, **options)["image"]
        protocol = {**context.protocol, **reference.origin, **meaning, **options}
        yield from pair_results(name, images, reference.images, protocol, context.options)


# Each: the metric of that name, of a denoiser at each of `context.timesteps`.
psnr, ssim, ms_ssim, lpips = (
    functools.partial(_reconstructions, name) for name in ("psnr", "ssim", "ms_ssim", "lpips")
)
