"""Features of the FID Inception on the CPU, here and from torch: python -m tests.parity.inception_speed.

299x299, batch 32, random weights. The two take turns, so that whatever else the machine does hinders both.
"""

import json
import time

import pytest

from genmodels.core import xla

BATCH, CALLS = 32, 5


def main():
    xla.configure()
    import jax
    import jax.numpy as jnp
    import numpy as np
    import torch

    from genmodels.extractors import inception
    from genmodels.models.inception import Inception
    from tests.parity.tools import random_inception, without_torchvision

    with pytest.MonkeyPatch.context() as patch:
        without_torchvision(patch)
        theirs = random_inception(["2048"])
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    params = jax.device_put({"params": inception.folded(state)})
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *inception.SHAPE), np.uint8)
    planes = torch.tensor(images).permute(0, 3, 1, 2).contiguous()
    compiled = jax.jit(lambda v, x: Inception().apply(v, (x.astype(jnp.float32) - 128) / 128).pool3)

    def here():
        return np.asarray(compiled(params, images))

    def there():
        with torch.no_grad():
            return theirs(planes)[0].numpy()

    difference = np.abs(here() - there()).max() / np.abs(there()).max()
    seconds = {"genmodels": [], "torch": []}
    for _ in range(CALLS):
        for name, run in (("genmodels", here), ("torch", there)):
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    rates = {name: BATCH / min(taken) for name, taken in seconds.items()}
    print(json.dumps({"images_per_s": rates, "relative_difference": float(difference)}))


if __name__ == "__main__":
    main()
