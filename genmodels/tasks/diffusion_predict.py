"""What a trained denoiser can do: draw samples, reconstruct, and say how likely an image is."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key

from genmodels.diffusion import guidance, likelihood, parameterization, process, samplers
from genmodels.diffusion.bound import Bound
from genmodels.diffusion.parameterization import Output
from genmodels.tasks.base import Predict
from genmodels.tasks.diffusion_settings import LikelihoodConfig, SamplerConfig, Settings

NETWORK = "denoiser"

Images = Float[Array, "batch height width channel"]


@dataclasses.dataclass(frozen=True, eq=False)
class Denoiser:
    """A network and the process it denoises.

    Attributes:
      learns_variance: the second half of the network's channels is its variance.
      num_classes: 0 is unconditional; the null label is `num_classes`.
    """

    model: Any
    process: process.Process
    learns_variance: bool
    num_classes: int

    def __call__(
        self,
        params: dict[str, Any],
        xt: Images,
        time: Float[Array, " batch"],
        labels: Integer[Array, " batch"] | None = None,
        keys: Key[Array, " batch"] | None = None,
    ) -> Output:
        """The prediction at (x_t, time); `keys` turn dropout on."""

        def network(x, t):
            return self.model.apply({"params": params[NETWORK]}, x, t, labels if self.num_classes else None, keys)

        if self.learns_variance:  # a DDPM, whose process adds nothing to the network
            return Output(*jnp.split(network(xt, time), 2, axis=-1))
        return Output(self.process.apply(network, xt, time))

    def guided(
        self,
        params: dict[str, Any],
        xt: Images,
        time: Float[Array, " batch"],
        labels: Integer[Array, " batch"],
        scale: Float[Array, " batch"],
    ) -> Output:
        """The prediction guided away from the null label's; the variance stays that of the label."""
        null = jnp.full_like(labels, self.num_classes)
        both = self(params, jnp.tile(xt, (2, 1, 1, 1)), jnp.tile(time, 2), jnp.concatenate([labels, null]))
        conditional, unconditional = jnp.split(both.prediction, 2)
        fraction = None if both.fraction is None else jnp.split(both.fraction, 2)[0]
        return Output(guidance.guided_prediction(conditional, unconditional, scale), fraction)


def predict_functions(
    denoiser: Denoiser,
    settings: Settings,
    sampling: SamplerConfig,
    likelihood_config: LikelihoodConfig,
    image_shape: tuple[int, int, int],
) -> dict[str, Predict]:
    """The predict functions of a diffusion task, by name."""
    way, kind = denoiser.process, settings.parameterization

    def bound_to(variables, inputs):
        """The denoiser at (x_t, time) for these labels, guided where a scale is given (which doubles its cost)."""
        labels, scale = inputs.get("label"), inputs.get("guidance_scale")
        if scale is None:
            return lambda xt, time: denoiser(variables["params"], xt, time, labels)
        return lambda xt, time: denoiser.guided(variables["params"], xt, time, labels, scale)

    def run_sampler(variables, inputs, options):
        chosen = SamplerConfig(**options)
        return samplers.sample(
            bound_to(variables, inputs),
            chosen.step(),
            way.grid(chosen.steps, chosen.spacing),
            inputs["key"],
            image_shape,
            kind=kind,
            clip=chosen.clip or None,
            start_std=way.start_std,
        )

    def sample(variables, frozen, inputs, dist, **options):
        return {"image": run_sampler(variables, inputs, options)[0]}

    def trajectory(variables, frozen, inputs, dist, *, frames, **options):
        _, path = run_sampler(variables, inputs, options)
        steps = np.round(np.linspace(0, options["steps"] - 1, min(frames, options["steps"]))).astype(int)
        return {name: jnp.moveaxis(getattr(path, name)[steps], 0, 1) for name in path._fields}

    def denoise(variables, frozen, inputs, dist, *, timestep):
        if not 0 <= timestep < way.num_steps:
            raise ValueError(f"timestep must be within [0, {way.num_steps}), got {timestep}")
        x0 = inputs["image"]
        time = way.time(jnp.full(x0.shape[0], (timestep + 0.5) / way.num_steps))
        xt = process.add_noise(way, x0, samplers.per_example_normal(inputs["key"], timestep, x0.shape[1:]), time)
        prediction = bound_to(variables, inputs)(xt, time).prediction
        return {"image": parameterization.to_x0(kind, prediction, xt, *way.alpha_sigma(time))}

    def vlb(variables, frozen, inputs, dist, *, strata):
        measured = Bound(way.schedule, settings.variance, kind, likelihood_config.clip or None)
        terms = measured.evaluate(bound_to(variables, inputs), inputs["image"], inputs["key"], strata)
        return {"nll": terms.total, "prior": terms.prior, "decoder": terms.steps[:, 0]} | {
            "curve_x": terms.time + 1,
            "curve_y": terms.steps,
        }

    def ode(variables, frozen, inputs, dist, *, trace, rtol, atol):
        noise_key, probe_key = (jax.vmap(jax.random.fold_in, (0, None))(inputs["key"], salt) for salt in range(2))
        # In float32, whose rounding the step size control does not take for error, and without the fused kernel, which
        # has no forward derivative.
        exact = dataclasses.replace(denoiser, model=denoiser.model.clone(dtype=jnp.float32, attention="xla"))
        found = likelihood.log_density(
            lambda xt, time, label: exact(variables["params"], xt, time, label),
            way,
            kind,
            likelihood.dequantize(inputs["image"], noise_key),
            inputs.get("label"),
            probe_key,
            trace=trace,
            rtol=rtol,
            atol=atol,
        )
        bits = likelihood.bits_per_dim(found.log_density, math.prod(image_shape))
        return {"nll": bits, "evaluations": found.evaluations}

    fields = ("label",) if denoiser.num_classes else ()
    guided = ("guidance_scale",) if denoiser.num_classes and settings.label_dropout else ()
    options = dataclasses.asdict(sampling)
    image_and_key = ("key", "image", *fields)
    given = {"unit": "bits/dim", "levels": 256, "given": "label" if fields else "nothing"}
    functions = {
        "sample": Predict(sample, ("key", *fields), "image", guided, options),
        "trajectory": Predict(trajectory, ("key", *fields), "x0", guided, options | {"frames": 10}),
        "denoise": Predict(denoise, image_and_key, "image", guided, {"timestep": way.num_steps // 4}),
        "ode": Predict(
            ode,
            image_and_key,
            "nll",
            options={"trace": likelihood_config.trace, "rtol": likelihood_config.rtol, "atol": likelihood_config.atol},
            protocol=given
            | {
                "likelihood": "ode",
                "meaning": "upper bound: density of the probability-flow ODE between the ends of log_ratio_range, "
                "uniformly dequantised",
                "log_ratio_range": [round(end, 4) for end in way.log_ratio_range],
                "dtype": "float32",
            },
        ),
    }
    if settings.process == "ddpm" and settings.timesteps > 1:
        functions["vlb"] = Predict(
            vlb,
            image_and_key,
            "nll",
            options={"strata": likelihood_config.strata},
            protocol=given
            | {
                "likelihood": "vlb",
                "meaning": "upper bound: variational, terms at all timesteps or an unbiased sample of them",
                "variance": settings.variance,
                "clip": likelihood_config.clip,
                "curve": "Variational bound, term by term",
            },
        )
    return functions
