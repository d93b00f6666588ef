"""Our schedules, processes and steps against diffusers' schedulers, whose tables are recomputed in double precision.

Conventions that differ, and are matched here by visiting the same nodes: Euler's and Heun's schedulers carry x / alpha;
DPM-Solver's linspace leaves out step 0; DDPM's and DDIM's go from t to t - T // S, ours to the next node, which is the
same where S divides T; `linspace` gives fractions there and whole steps here. x_0 is clipped by DDPM and DDIM alone.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.diffusion import parameterization, process, samplers, schedules, spacing
from genmodels.diffusion.edm import EDM
from genmodels.diffusion.parameterization import Denoised, Output
from genmodels.diffusion.samplers import AncestralStep, DDIMStep, DPMSolverPP2MStep, HeunStep, View
from genmodels.diffusion.spacing import Grid
from tests.diffusion.gaussian import ddpm

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[parity]')")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (pip install -e '.[parity]')")

pytestmark = pytest.mark.slow

NAMES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
SHAPE = (2, 4, 4, 3)
SIZE = 2.0  # of the images, for the relative 1e-5


def scheduler_of(cls, name, steps=None, **options):
    """One of their schedulers, in double precision."""
    made = cls(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule=NAMES[name], **options)
    betas = torch.from_numpy(schedules.BETAS[name](1000))
    made.betas, made.alphas, made.alphas_cumprod = betas, 1 - betas, torch.cumprod(1 - betas, 0)
    made.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    made.one = torch.tensor(1.0, dtype=torch.float64)
    if steps is not None:
        made.set_timesteps(steps)
    return made


def nodes(made):
    """Their timesteps without Heun's repetitions."""
    return np.array(list(dict.fromkeys(int(t) for t in made.timesteps)))


def toy(x, t, xp=np):
    """A smooth function in place of a network's epsilon."""
    return xp.tanh(x + 0.3 * xp.roll(x, 1, axis=1)) * (0.5 + t / 2000) + 0.1


def to_torch(x):
    return torch.from_numpy(np.ascontiguousarray(np.asarray(x, np.float64).transpose(0, 3, 1, 2)))


def to_numpy(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


def view(grid, i, x, before, noise, clip, kind="epsilon", fraction=None):
    """What a step sees at node i when the network is `toy`."""

    def ask(image, node):
        output = Output(toy(image, np.float32(grid.time[node]), jnp), fraction)
        alpha, sigma = jnp.float32(grid.alpha[node]), jnp.float32(grid.sigma[node])
        return parameterization.denoised(kind, output, image, alpha, sigma, clip)

    return View(jnp.asarray(x), ask(jnp.asarray(x), i), before, noise, lambda y: ask(y, i + 1))


def row_of(step, grid, i):
    return {name: jnp.float32(values[i]) for name, values in step.table(grid).items()}


def images(seed):
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_schedules_equal_theirs(name):
    theirs = diffusers.DDPMScheduler(1000, beta_schedule=NAMES[name])
    ours = schedules.Schedule.named(name, 1000)
    np.testing.assert_allclose(ours.betas, theirs.betas, rtol=1e-5)
    np.testing.assert_allclose(ours.alphas_cumprod, theirs.alphas_cumprod, rtol=1e-4, atol=1e-7)
    rescaled = diffusers.DDIMScheduler(1000, beta_schedule=NAMES[name], rescale_betas_zero_snr=True)
    zero = schedules.Schedule.named(name, 1000, zero_terminal_snr=True)
    np.testing.assert_allclose(zero.alphas_cumprod, rescaled.alphas_cumprod, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [10, 20, 50, 1000])
def test_spacings_equal_theirs(kind, steps):
    theirs = diffusers.DDIMScheduler(1000, timestep_spacing=kind)
    theirs.set_timesteps(steps)
    np.testing.assert_array_equal(spacing.sampling_timesteps(1000, steps, kind), theirs.timesteps)
    linspace = diffusers.DDIMScheduler(1000, timestep_spacing="linspace")
    linspace.set_timesteps(steps)
    np.testing.assert_array_equal(spacing.sampling_timesteps(1000, steps, "linspace"), linspace.timesteps)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("variance", samplers.VARIANCES)
@pytest.mark.parametrize(("kind", "steps"), [("leading", 10), ("trailing", 1000)])
def test_ddpm_steps_equal_theirs(name, variance, kind, steps):
    made = scheduler_of(diffusers.DDPMScheduler, name, steps, variance_type=variance, timestep_spacing=kind)
    grid, step = ddpm(name).grid(steps, kind), AncestralStep(variance)
    np.testing.assert_array_equal(grid.time[:-1], made.timesteps)
    fraction = jnp.tanh(images(5)) if variance == "learned_range" else None
    for i in {0, 1, steps // 2, steps - 3, steps - 2, steps - 1}:
        x, t = images(i), int(made.timesteps[i])
        generator = torch.Generator().manual_seed(i)
        output = to_torch(toy(x, t))
        if fraction is not None:
            output = torch.cat([output, to_torch(fraction)], dim=1)
        theirs = made.step(output, t, to_torch(x), generator=generator).prev_sample
        noise = torch.randn((2, 3, 4, 4), generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        ours = step(row_of(step, grid, i), view(grid, i, x, x, jnp.asarray(to_numpy(noise)), 1.0, fraction=fraction))
        np.testing.assert_allclose(ours, to_numpy(theirs), atol=1e-5 * SIZE, err_msg=f"step {i}")


@pytest.mark.parametrize("name", NAMES)
def test_posterior_coefficients_equal_theirs(name):
    """A step of DDPM with no noise and the true x_0 is the posterior mean; its variance is theirs."""
    made = scheduler_of(diffusers.DDPMScheduler, name, 1000, variance_type="fixed_small", clip_sample=False)
    alpha, sigma = np.append(1.0, ddpm(name).schedule.alpha), np.append(0.0, ddpm(name).schedule.sigma)
    q = process.posterior(alpha[1:], sigma[1:], alpha[:-1], sigma[:-1])
    theirs = np.array([float(made._get_variance(t)) for t in range(1000)])
    np.testing.assert_allclose(q.variance[1:], theirs[1:], rtol=1e-5)
    np.testing.assert_allclose(q.beta, made.betas, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["leading", "trailing"])
def test_ddim_steps_equal_theirs(name, eta, kind):
    made = scheduler_of(diffusers.DDIMScheduler, name, 10, timestep_spacing=kind)
    grid, step = ddpm(name).grid(10, kind), DDIMStep(eta)
    for i in range(10):
        x, noise, t = images(i), images(100 + i), int(made.timesteps[i])
        theirs = made.step(
            to_torch(toy(x, t)), t, to_torch(x), eta=eta, use_clipped_model_output=True, variance_noise=to_torch(noise)
        ).prev_sample
        ours = step(row_of(step, grid, i), view(grid, i, x, x, jnp.asarray(noise), 1.0))
        np.testing.assert_allclose(ours, to_numpy(theirs), atol=1e-5 * SIZE, err_msg=f"step {i}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["leading", "trailing"])
def test_euler_steps_equal_theirs(name, kind):
    made = scheduler_of(diffusers.EulerDiscreteScheduler, name, 10, timestep_spacing=kind)
    grid, step = ddpm(name).grid(10, kind), samplers.STEPS["euler"]()
    np.testing.assert_allclose(grid.sigma / grid.alpha, made.sigmas, rtol=1e-5)
    for i in range(10):
        x, t = images(i), made.timesteps[i]
        theirs = made.step(to_torch(toy(x, float(t))), t, to_torch(x / grid.alpha[i])).prev_sample
        ours = step(row_of(step, grid, i), view(grid, i, x, x, x, None))
        wanted = grid.alpha[i + 1] * to_numpy(theirs)
        scale = max(SIZE, float(np.abs(wanted).max()))  # unclipped x_0 is huge where there is little signal
        np.testing.assert_allclose(ours, wanted, atol=1e-5 * scale, err_msg=f"step {i}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["leading", "trailing"])
def test_heun_steps_equal_theirs(name, kind):
    made = scheduler_of(diffusers.HeunDiscreteScheduler, name, 10, timestep_spacing=kind)
    grid, step = ddpm(name).grid_at(nodes(made)), HeunStep("ratio")
    for i in range(10):
        x, t = images(i), grid.time[i]
        y = to_torch(x / grid.alpha[i])
        first = made.step(to_torch(toy(x, t)), made.timesteps[2 * i], y).prev_sample
        if i < 9:
            scaled = grid.alpha[i + 1] * to_numpy(first)
            theirs = made.step(to_torch(toy(scaled, grid.time[i + 1])), made.timesteps[2 * i + 1], first).prev_sample
        else:
            theirs = first
        ours = step(row_of(step, grid, i), view(grid, i, x, x, x, None))
        wanted = grid.alpha[i + 1] * to_numpy(theirs)
        scale = max(SIZE, float(np.abs(wanted).max()))  # unclipped x_0 is huge where there is little signal
        np.testing.assert_allclose(ours, wanted, atol=1e-5 * scale, err_msg=f"step {i}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("kind", "steps"), [("leading", 10), ("trailing", 20), ("linspace", 20)])
def test_dpm_solver_steps_equal_theirs(name, kind, steps):
    made = scheduler_of(
        diffusers.DPMSolverMultistepScheduler,
        name,
        steps,
        timestep_spacing=kind,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
    )
    grid, step = ddpm(name).grid_at(nodes(made)), DPMSolverPP2MStep()
    before = np.zeros(SHAPE, np.float32)
    for i in range(steps):
        x, t = images(i), grid.time[i]
        theirs = made.step(to_torch(toy(x, t)), made.timesteps[i], to_torch(x)).prev_sample
        seen = view(grid, i, x, jnp.asarray(before), x, None)
        ours = step(row_of(step, grid, i), seen)
        before = seen.here.x0
        scale = max(SIZE, float(np.abs(before).max()))  # as above
        np.testing.assert_allclose(ours, to_numpy(theirs), atol=1e-5 * scale, err_msg=f"step {i}")


def test_flow_steps_equal_theirs():
    made = diffusers.FlowMatchEulerDiscreteScheduler(1000)
    made.set_timesteps(10)
    t = np.asarray(made.sigmas, np.float64)
    grid, step = Grid(t, 1 - t, t), samplers.STEPS["euler"]()
    for i in range(10):
        x = images(i)
        theirs = made.step(to_torch(toy(x, t[i])), made.timesteps[i], to_torch(x)).prev_sample
        ours = step(row_of(step, grid, i), view(grid, i, x, x, x, None, kind="flow"))
        np.testing.assert_allclose(ours, to_numpy(theirs), atol=1e-5 * SIZE, err_msg=f"step {i}")


def test_edm_preconditioning_sigmas_and_euler_steps_equal_theirs():
    made = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    made.set_timesteps(18)
    way, step = EDM(), samplers.STEPS["euler"]()
    grid = way.grid(18)
    np.testing.assert_allclose(grid.sigma, made.sigmas, rtol=1e-5)
    for i in range(18):
        x = images(i) * np.float32(np.sqrt(grid.sigma[i] ** 2 + 0.25))
        sigma = jnp.full(2, grid.sigma[i], jnp.float32)
        asked = []

        def network(scaled, c_noise, asked=asked):
            asked.append((scaled, c_noise))
            return toy(scaled, 0.0, jnp)

        x0 = way.apply(network, jnp.asarray(x), sigma)
        np.testing.assert_allclose(
            asked[0][0], to_numpy(made.scale_model_input(to_torch(x), made.timesteps[i])), atol=1e-5
        )
        np.testing.assert_allclose(asked[0][1], made.timesteps[i], rtol=1e-5)
        raw = to_torch(toy(np.asarray(asked[0][0]), 0.0))
        theirs = made.step(raw, made.timesteps[i], to_torch(x)).prev_sample
        here = Denoised(x0, parameterization.to_epsilon("x0", x0, jnp.asarray(x), jnp.ones(()), sigma[0]))
        ours = step(row_of(step, grid, i), View(jnp.asarray(x), here, x0, x0, None))
        np.testing.assert_allclose(ours, to_numpy(theirs), atol=1e-5 * max(SIZE, grid.sigma[i]), err_msg=f"step {i}")
