"""The predict functions of a trained denoiser: samples, one-step reconstructions and likelihoods."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key

from genmodels.core.rng import fold
from genmodels.diffusion import guidance, likelihood, parameterization, samplers
from genmodels.diffusion.parameterization import Output
from genmodels.diffusion.process import Process, add_noise
from genmodels.tasks.base import Predict
from genmodels.tasks.diffusion_settings import DDPMConfig, LikelihoodConfig, SamplerConfig, Settings

NETWORK = "denoiser"
DEQUANTIZATION_SALT, PROBE_SALT = range(2)  # an example's key is folded with one of these in `ode`

Images = Float[Array, "batch height width channel"]
PerExample = Float[Array, " batch"]
Inputs = Mapping[str, Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Denoiser:
    """A network and the process that it denoises.

    Attributes:
      model: a `UNet`, or any network that is called like one.
      learns_variance: the second half of the network's output channels is its variance.
      num_classes: the number of classes; 0 is unconditional. The null label is `num_classes`.
    """

    model: Any
    process: Process
    learns_variance: bool
    num_classes: int

    def __call__(
        self,
        params: dict[str, Any],
        xt: Images,
        time: PerExample,
        labels: Integer[Array, " batch"] | None = None,
        keys: Key[Array, " batch"] | None = None,
    ) -> Output:
        """The prediction at (x_t, time); `keys` turn dropout on."""

        def network(x, t):
            return self.model.apply({"params": params[NETWORK]}, x, t, labels if self.num_classes else None, keys)

        prediction = self.process.apply(network, xt, time)
        if self.learns_variance:  # only a DDPM learns it, and its process does not scale the network's output
            return Output(*jnp.split(prediction, 2, axis=-1))
        return Output(prediction)

    def guided(
        self,
        params: dict[str, Any],
        xt: Images,
        time: PerExample,
        labels: Integer[Array, " batch"],
        scale: PerExample,
    ) -> Output:
        """The prediction with classifier-free guidance; the variance is that of the label."""
        null = jnp.full_like(labels, self.num_classes)
        both = self(params, jnp.tile(xt, (2, 1, 1, 1)), jnp.tile(time, 2), jnp.concatenate([labels, null]))
        conditional, unconditional = jnp.split(both.prediction, 2)
        fraction = None if both.fraction is None else jnp.split(both.fraction, 2)[0]
        return Output(guidance.guided_prediction(conditional, unconditional, scale), fraction)


@dataclasses.dataclass(frozen=True, eq=False)
class DiffusionFunctions:
    """The predict functions of a diffusion task; their common arguments are those of `Predict.fn`.

    Attributes:
      settings: `config.diffusion`.
      sampling: `config.sampler`, the defaults of the options of `sample`.
      likelihood_config: `config.likelihood`, the defaults of the options of `vlb` and `ode`.
      image_shape: (height, width, channel).
    """

    denoiser: Denoiser
    settings: Settings
    sampling: SamplerConfig
    likelihood_config: LikelihoodConfig
    image_shape: tuple[int, int, int]

    def conditioned(self, variables: Any, inputs: Inputs) -> Callable[[Images, PerExample], Output]:
        """The denoiser as a function of (x_t, time) at the labels of `inputs`.

        It is guided where `inputs` has a "guidance_scale", which doubles its cost.
        """
        params, scale = variables["params"], inputs.get("guidance_scale")
        if scale is None:
            return lambda xt, time: self.denoiser(params, xt, time, inputs.get("label"))
        return lambda xt, time: self.denoiser.guided(params, xt, time, inputs["label"], scale)

    def draw(self, variables: Any, inputs: Inputs, options: Mapping[str, Any]) -> tuple[Images, samplers.Path]:
        """One image for each key, and the path of the sampler that these options of SamplerConfig describe."""
        process, sampling = self.denoiser.process, SamplerConfig(**options)
        return samplers.sample(
            self.conditioned(variables, inputs),
            sampling.step(),
            process.grid(sampling.steps, sampling.spacing),
            inputs["key"],
            self.image_shape,
            parameterization=self.settings.parameterization,
            clip=sampling.clip or None,
            start_std=process.start_std,
        )

    def sample(self, variables: Any, frozen: Any, inputs: Inputs, dist: Any, **options) -> dict[str, Array]:
        """One image for each key."""
        return {"image": self.draw(variables, inputs, options)[0]}

    def trajectory(
        self, variables: Any, frozen: Any, inputs: Inputs, dist: Any, *, frames: int, **options
    ) -> dict[str, Array]:
        """The noisy images and the predicted x_0 at up to `frames` steps, evenly spaced along the sampler's path."""
        _, path = self.draw(variables, inputs, options)
        steps = np.round(np.linspace(0, options["steps"] - 1, min(frames, options["steps"]))).astype(int)
        return {name: jnp.moveaxis(getattr(path, name)[steps], 0, 1) for name in path._fields}

    def denoise(self, variables: Any, frozen: Any, inputs: Inputs, dist: Any, *, timestep: int) -> dict[str, Array]:
        """The x_0 that the network predicts from each image at the noise of `timestep`, out of `num_steps`.

        Raises:
          ValueError: the timestep is out of range.
        """
        process, x0 = self.denoiser.process, inputs["image"]
        if not 0 <= timestep < process.num_steps:
            raise ValueError(f"timestep must be within [0, {process.num_steps}), got {timestep}")
        time = process.time(jnp.full(x0.shape[0], (timestep + 0.5) / process.num_steps))
        xt = add_noise(process, x0, samplers.per_example_normal(inputs["key"], timestep, x0.shape[1:]), time)
        prediction = self.conditioned(variables, inputs)(xt, time).prediction
        x0 = parameterization.to_x0(self.settings.parameterization, prediction, xt, *process.alpha_sigma(time))
        return {"image": x0}

    def vlb(self, variables: Any, frozen: Any, inputs: Inputs, dist: Any, *, strata: int) -> dict[str, Array]:
        """The variational bound of each image in bits per dimension, and its terms by t + 1."""
        assert isinstance(self.settings, DDPMConfig)  # `by_name` offers this function for no other process
        bound = self.settings.bound(self.likelihood_config.clip or None)
        terms = bound.evaluate(self.conditioned(variables, inputs), inputs["image"], inputs["key"], strata)
        return {"nll": terms.total, "prior": terms.prior, "decoder": terms.steps[:, 0]} | {
            "curve_x": terms.time + 1,
            "curve_y": terms.steps,
        }

    def ode(
        self, variables: Any, frozen: Any, inputs: Inputs, dist: Any, *, trace: str, rtol: float, atol: float
    ) -> dict[str, Array]:
        """The likelihood of each image by the probability-flow ODE, in bits per dimension.

        The network runs in float32, because the step size control takes coarser rounding for an error of the step, and
        with XLA's attention, because the fused kernel has no forward-mode derivative.
        """
        model = self.denoiser.model.clone(dtype=jnp.float32, attention="xla")
        denoiser = dataclasses.replace(self.denoiser, model=model)
        result = likelihood.log_density(
            lambda xt, time, label: denoiser(variables["params"], xt, time, label),
            self.denoiser.process,
            self.settings.parameterization,
            likelihood.dequantize(inputs["image"], fold(inputs["key"], DEQUANTIZATION_SALT)),
            inputs.get("label"),
            fold(inputs["key"], PROBE_SALT),
            trace=trace,
            rtol=rtol,
            atol=atol,
        )
        bits = likelihood.bits_per_dim(result.log_density, math.prod(self.image_shape))
        return {"nll": bits, "evaluations": result.evaluations}

    def check_likelihood(self, options: Mapping[str, Any]) -> None:
        """Raises ConfigError or ValueError for options of `ode` and `vlb` that they do not take."""
        strata = dataclasses.replace(self.likelihood_config, **options).strata
        most = self.denoiser.process.num_steps - 1
        if "strata" in options and not 0 <= strata <= most:
            raise ValueError(f"strata={strata} must be within [0, {most}]; 0 evaluates all steps")

    def by_name(self) -> dict[str, Predict]:
        """The predict functions by name; `vlb` only for a DDPM of two or more steps."""
        fields = ("label",) if self.denoiser.num_classes else ()
        guided = ("guidance_scale",) if self.denoiser.num_classes and self.settings.label_dropout else ()
        options = dataclasses.asdict(self.sampling)
        image_and_key, default_timestep = ("key", "image", *fields), self.denoiser.process.num_steps // 4
        functions = {
            "sample": Predict(self.sample, ("key", *fields), "image", guided, options),
            "trajectory": Predict(
                self.trajectory,
                ("key", *fields),
                "x0",
                guided,
                options | {"frames": 10},
                title="Denoising trajectory",
                shows={"xt": "x_t from noise to image", "x0": "the x0 predicted from it"},
            ),
            "denoise": Predict(
                self.denoise,
                image_and_key,
                "image",
                guided,
                {"timestep": default_timestep},
                title="Denoised in one step",
                shows={"image": "the x0 predicted from each after noise was added"},
            ),
            "ode": self._ode_predict(image_and_key),
        }
        if isinstance(self.settings, DDPMConfig) and self.settings.timesteps > 1:
            functions["vlb"] = self._vlb_predict(image_and_key, self.settings.variance)
        return functions

    def _given(self) -> dict[str, Any]:
        """The part of the protocol that all likelihoods share."""
        return {"unit": "bits/dim", "levels": 256, "given": "label" if self.denoiser.num_classes else "nothing"}

    def _ode_predict(self, inputs: tuple[str, ...]) -> Predict:
        config = self.likelihood_config
        protocol = self._given() | {
            "likelihood": "ode",
            "meaning": "upper bound: density of the probability-flow ODE between the ends of log_ratio_range, "
            "uniformly dequantised",
            "log_ratio_range": [round(end, 4) for end in self.denoiser.process.log_ratio_range],
            "dtype": "float32",
        }
        options = {"trace": config.trace, "rtol": config.rtol, "atol": config.atol}
        return Predict(self.ode, inputs, "nll", options=options, protocol=protocol, check=self.check_likelihood)

    def _vlb_predict(self, inputs: tuple[str, ...], variance: str) -> Predict:
        protocol = self._given() | {
            "likelihood": "vlb",
            "meaning": "upper bound: variational, terms at all timesteps or an unbiased sample of them",
            "variance": variance,
            "clip": self.likelihood_config.clip,
            "curve": "Variational bound, term by term",
        }
        options = {"strata": self.likelihood_config.strata}
        return Predict(self.vlb, inputs, "nll", options=options, protocol=protocol, check=self.check_likelihood)
