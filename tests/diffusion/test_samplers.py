import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.diffusion import samplers
from genmodels.diffusion.parameterization import Output
from genmodels.diffusion.samplers import AncestralStep, DDIMStep, DPMSolverPP2MStep, HeunStep
from genmodels.diffusion.spacing import Grid
from tests.diffusion.gaussian import PREDICTS, PROCESSES, SHAPE, ddpm, exact, exact_x0, keys_for

STOCHASTIC = [AncestralStep("fixed_small"), AncestralStep("fixed_large"), DDIMStep(0.5), DDIMStep(1.0)]
STEPS = [*STOCHASTIC, DDIMStep(), HeunStep(), HeunStep("ratio"), DPMSolverPP2MStep()]


def draw(predict, step, grid, num, **options):
    return jax.jit(lambda keys: samplers.sample(predict, step, grid, keys, SHAPE, **options))(keys_for(num))


QUICK_RUNS = [(name, 7) for name in PROCESSES] + [("cosine", 100)]
SLOW_RUNS = [pytest.param(name, 100, marks=pytest.mark.slow) for name in PROCESSES if name != "cosine"]


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize(("name", "count"), QUICK_RUNS + SLOW_RUNS)
def test_every_sampler_lands_on_one_point_data(step, name, count):
    process = PROCESSES[name]
    point = jnp.linspace(-0.9, 0.9, 18).reshape(SHAPE)
    predict = exact(process, PREDICTS[name], point, 0.0)
    grid = process.grid(count, process.spacings[0])
    options = {"parameterization": PREDICTS[name], "start_std": process.start_std}
    images, path = draw(predict, step, grid, 5, **options)
    np.testing.assert_allclose(images, jnp.broadcast_to(point, images.shape), atol=3e-3)
    assert path.x0.shape == path.xt.shape == (count, 5, *SHAPE)


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("name", PROCESSES)
def test_the_exact_score_of_gaussian_data_gives_its_marginal(step, name):
    """Linear updates keep Gaussians Gaussian: mean and variance of the samples are the data's."""
    process, mean, std, num = PROCESSES[name], 0.3, 0.5, 1000
    predict = exact(process, PREDICTS[name], mean, std)
    options = {"parameterization": PREDICTS[name], "start_std": process.start_std, "clip": None}
    values = np.asarray(
        draw(predict, step, process.grid(200, process.spacings[0]), num, **options)[0], np.float64
    ).reshape(-1)
    count = len(values)
    assert abs(values.mean() - mean) < 5 * std / np.sqrt(count) + 0.005
    # fixed_large adds the forward variance instead of the posterior's: right only in the limit of many steps
    slack = 0.1 if step == AncestralStep("fixed_large") else 0.015
    assert abs(values.std() / std - 1) < 5 / np.sqrt(2 * count) + slack


@pytest.mark.parametrize("name", ["cosine", "edm"])
def test_the_learned_range_with_the_true_variance_is_exact_at_any_number_of_steps(name):
    """Between Gaussians p(x_s | x_t) is Gaussian, so ancestral steps of its variance lose nothing however long."""
    process, std = PROCESSES[name], 0.5
    grid = process.grid(6, process.spacings[0])
    step = AncestralStep("learned_range")
    row = step.table(grid)
    node = {"alpha": grid.alpha[:-1], "sigma": grid.sigma[:-1]}
    x0_variance = node["sigma"] ** 2 * std**2 / (node["alpha"] ** 2 * std**2 + node["sigma"] ** 2)  # given x_t
    small = np.where(grid.sigma[1:] > 0, np.exp(row["log_small"]), 0.0)
    true = small + row["x0"] ** 2 * x0_variance
    with np.errstate(divide="ignore", invalid="ignore"):
        f = (np.log(true) - row["log_small"]) / (row["log_large"] - row["log_small"])
    assert ((f[:-1] > 0) & (f[:-1] < 1)).all() or name == "edm"  # with unit signal, between beta and the posterior's
    fractions = jnp.asarray(2 * f - 1, jnp.float32)
    times = jnp.asarray(grid.time[:-1], jnp.float32)
    denoise = exact(process, "x0", 0.0, std)

    def predict(x, time):
        fraction = fractions[jnp.argmin(jnp.abs(times - time[0]))]
        return Output(denoise(x, time).prediction, jnp.broadcast_to(fraction, x.shape))

    _, path = draw(predict, step, grid, 6000, parameterization="x0", clip=None, start_std=process.start_std)
    # The last step takes the mean, so look one node before it.
    sigma, alpha = grid.sigma[-2], grid.alpha[-2]
    wanted = np.sqrt(alpha**2 * std**2 + sigma**2)
    assert abs(np.asarray(path.xt[-1], np.float64).std() / wanted - 1) < 0.01
    too_small = draw(
        denoise, AncestralStep("fixed_small"), grid, 6000, parameterization="x0", clip=None, start_std=process.start_std
    )
    assert np.asarray(too_small[1].xt[-1], np.float64).std() / wanted < 0.97


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_large_variance_is_exact_for_data_of_unit_variance(name):
    """DDPM section 3.2: beta is the variance of x_s given x_t when x_0 ~ N(0, 1), however long the step."""
    process = PROCESSES[name]
    grid = process.grid(6)
    for variance in ("fixed_large", "fixed_small"):
        _, path = draw(
            exact(process, "x0", 0.0, 1.0), AncestralStep(variance), grid, 6000, parameterization="x0", clip=None
        )
        std = np.asarray(path.xt[-1], np.float64).std()  # the last step takes the mean: look one node before it
        assert abs(std - 1) < 0.01 if variance == "fixed_large" else std < 0.97


def test_ddim_with_eta_one_is_ancestral_with_small_variance():
    process = ddpm("linear", 60)
    predict = exact(process, "epsilon", 0.2, 0.4)
    for count in (60, 9):
        grid = process.grid(count)
        results = [draw(predict, step, grid, 4)[0] for step in (DDIMStep(1.0), AncestralStep())]
        np.testing.assert_allclose(*results, atol=1e-5)
    other = draw(predict, DDIMStep(0.0), grid, 4)[0]
    assert np.abs(other - results[0]).max() > 0.01


@pytest.mark.parametrize("parameterization", ["epsilon", "x0", "velocity"])
def test_the_parameterization_does_not_change_the_samples(parameterization):
    process = ddpm("cosine", 40)
    # At the clipped last beta alpha is 1e-3, and epsilon is all of x_t: start below it.
    grid = Grid(*(part[1:] for part in process.grid(10)))
    wanted, found = (
        draw(exact(process, target, 0.1, 0.3), DDIMStep(), grid, 3, parameterization=target)[0]
        for target in ("epsilon", parameterization)
    )
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_clipping_re_derives_epsilon():
    """A network that says x0 = 3 everywhere ends at the clip, whatever epsilon it claims."""
    images, _ = draw(
        lambda x, t: Output(3 * jnp.ones_like(x)), DDIMStep(), ddpm("cosine", 20).grid(20), 2, parameterization="x0"
    )
    np.testing.assert_allclose(images, 1.0, atol=1e-5)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_an_example_does_not_depend_on_its_batch(step):
    process = ddpm("cosine", 20)
    predict = exact(process, "epsilon", 0.0, 0.5)
    many = samplers.sample(predict, step, process.grid(5), keys_for(16), SHAPE)[0]
    some = samplers.sample(predict, step, process.grid(5), keys_for(16)[5:8], SHAPE)[0]
    np.testing.assert_allclose(some, many[5:8], atol=1e-5)
    assert len(np.unique(np.asarray(many[:, 0, 0, 0]))) >= 12  # some may meet at the clip


@pytest.mark.parametrize(
    "step", [DDIMStep(), HeunStep(), HeunStep("ratio"), DPMSolverPP2MStep(), AncestralStep()], ids=str
)
def test_schedules_that_end_at_zero_snr_can_be_sampled(step):
    process = ddpm("linear", 200, zero_terminal_snr=True)

    def predict(x, time):  # the exact velocity, written so that pure noise is no special case
        alpha, sigma = process.alpha_sigma(time)
        x0 = exact_x0(x, alpha, sigma, 0.2, 0.5)
        epsilon = sigma * (x - alpha * 0.2) / (alpha**2 * 0.25 + sigma**2)
        return Output(alpha * epsilon - sigma * x0)

    images, _ = draw(predict, step, process.grid(200), 2000, parameterization="velocity", clip=None)
    assert abs(float(images.mean()) - 0.2) < 0.02
    assert abs(float(images.std()) / 0.5 - 1) < 0.03


def test_grids_that_do_not_lose_noise_are_refused():
    process = ddpm("cosine", 20)
    grid = process.grid(5)
    for bad in (Grid(*(part[::-1] for part in grid)), Grid(*(part[:1] for part in grid))):
        with pytest.raises(ValueError, match="less noise"):
            samplers.sample(lambda x, t: Output(x), DDIMStep(), bad, keys_for(1), SHAPE)


def test_ten_heun_steps_suffice_for_a_schedule_that_ends_in_almost_pure_noise():
    """The first of ten even steps of the cosine schedule goes from a ratio of 20,000 to one of 6."""
    process, errors = PROCESSES["cosine"], {}
    for step in (HeunStep(), HeunStep("ratio"), DDIMStep()):
        images = draw(
            exact(process, "velocity", 0.3, 0.5), step, process.grid(10), 2000, parameterization="velocity", clip=None
        )[0]
        errors[step] = abs(float(images.std()) / 0.5 - 1)
    assert errors[HeunStep()] < 0.5 * errors[DDIMStep()]
    assert errors[HeunStep("ratio")] > 2 * errors[DDIMStep()]


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="coordinate"):
        HeunStep("sigma")
    with pytest.raises(ValueError, match="variance"):
        AncestralStep("learned")
    with pytest.raises(ValueError, match="eta"):
        DDIMStep(1.5)
    process = ddpm("cosine", 20)
    with pytest.raises(ValueError, match="trained to predict its variance"):
        samplers.sample(
            exact(process, "x0", 0, 1),
            AncestralStep("learned_range"),
            process.grid(2),
            keys_for(1),
            SHAPE,
            parameterization="x0",
        )


def gaussian_end(process, start, first, last, mean, std):
    """The end of the probability-flow ODE that begins at `start`, between two nodes, in closed form.

    (x - alpha mean) / sqrt(alpha^2 std^2 + sigma^2) is constant along it.
    """

    def standard_deviation(node):
        return np.sqrt(node[0] ** 2 * std**2 + node[1] ** 2)

    return last[0] * mean + (start - first[0] * mean) * standard_deviation(last) / standard_deviation(first)


ORDERS = [
    ("ddim", DDIMStep(), 1),
    ("heun", HeunStep(), 2),
    ("heun_ratio", HeunStep("ratio"), 2),
    ("dpmpp_2m", DPMSolverPP2MStep(), 2),
]


@pytest.mark.parametrize(("name", "step", "order"), ORDERS, ids=[o[0] for o in ORDERS])
@pytest.mark.parametrize("process_name", ["cosine", "linear", "edm", "flow"])
def test_the_order_of_convergence_is_the_published_one(process_name, name, step, order):
    """Error at the end of the ODE for halved steps, from an inner node to an inner node, in double precision."""
    process, mean, std = PROCESSES[process_name], 0.3, 0.5
    noisy, clean = {"edm": (10.0, 0.05), "flow": (20.0, 0.05)}.get(process_name, (20.0, 0.05))
    errors = []
    with jax.enable_x64(True):
        for count in (32, 64, 128):
            if process_name == "flow":  # even in time
                t = np.linspace(noisy / (1 + noisy), clean / (1 + clean), count + 1)
                grid = Grid(t, 1 - t, t)
            else:
                ratio = np.exp(np.linspace(np.log(noisy), np.log(clean), count + 1))
                alpha = np.ones_like(ratio) if process_name == "edm" else 1 / np.sqrt(1 + ratio**2)
                grid = Grid(ratio, alpha, ratio * alpha)

            def predict(x, time, grid=grid):
                node = jnp.argmin(jnp.abs(jnp.asarray(grid.time) - time[0]))
                alpha, sigma = jnp.asarray(grid.alpha)[node], jnp.asarray(grid.sigma)[node]
                return Output(exact_x0(x, alpha, sigma, mean, std))

            start = jnp.linspace(-2.0, 2.0, 18, dtype=jnp.float64).reshape(1, *SHAPE)
            end, _ = samplers.integrate(predict, step, grid, start, keys_for(1), parameterization="x0", clip=None)
            wanted = gaussian_end(
                process, np.asarray(start), (grid.alpha[0], grid.sigma[0]), (grid.alpha[-1], grid.sigma[-1]), mean, std
            )
            errors.append(float(np.abs(np.asarray(end) - wanted).max()))
    slopes = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert errors[-1] < 0.05
    assert (np.abs(slopes - order) < 0.25).all(), (errors, slopes)
