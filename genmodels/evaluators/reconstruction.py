"""One-step reconstruction: noise held-out images to a stated step, predict x0 at once, compare in pairs."""

import functools
from collections.abc import Iterator

from genmodels.evaluators.base import Context, Result
from genmodels.evaluators.pairs import pair_results


def _reconstructions(name: str, context: Context) -> Iterator[Result]:
    reference = context.reference
    inputs = {"image": reference.images}
    if context.conditional:
        inputs["label"] = reference.labels
    for timestep in context.timesteps:
        images = context.predict("denoise", len(reference), inputs, seed=context.seed, timestep=timestep)["image"]
        protocol = {**context.protocol, **reference.origin, "reconstruction": "one step", "timestep": timestep}
        yield from pair_results(name, images, reference.images, protocol, context.options)


# Each: the metric of that name at each of `context.timesteps`.
psnr, ssim, ms_ssim, lpips = (
    functools.partial(_reconstructions, name) for name in ("psnr", "ssim", "ms_ssim", "lpips")
)
