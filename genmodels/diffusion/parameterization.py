"""What a diffusion network predicts, and the conversions among the three targets, in one place.

    x_t      = alpha x_0 + sigma epsilon            alpha^2 + sigma^2 = 1
    velocity = alpha epsilon - sigma x_0            (Salimans & Ho 2022, appendix D)

    x_0      = (x_t - sigma epsilon) / alpha  =  alpha x_t - sigma velocity
    epsilon  = (x_t - alpha x_0) / sigma      =  sigma x_t + alpha velocity

`alpha` and `sigma` broadcast against the images, e.g. shape [batch, 1, 1, 1] or scalars.
"""

from jaxtyping import Array, Float

Images = Float[Array, "batch height width channel"]
Coefficient = Float[Array, "*#coefficient"]

PARAMETERIZATIONS = ("epsilon", "x0", "velocity")


def _check(kind: str) -> None:
    if kind not in PARAMETERIZATIONS:
        raise ValueError(f"unknown parameterization {kind!r}; there are {', '.join(PARAMETERIZATIONS)}")


def target(kind: str, x0: Images, epsilon: Images, alpha: Coefficient, sigma: Coefficient) -> Images:
    """The regression target of the network for the true `x0` and `epsilon`."""
    _check(kind)
    if kind == "epsilon":
        return epsilon
    return x0 if kind == "x0" else alpha * epsilon - sigma * x0


def to_x0(kind: str, prediction: Images, xt: Images, alpha: Coefficient, sigma: Coefficient) -> Images:
    """The x0 that a `prediction` of the given kind means at `xt`."""
    _check(kind)
    if kind == "x0":
        return prediction
    if kind == "epsilon":
        return (xt - sigma * prediction) / alpha
    return alpha * xt - sigma * prediction


def to_epsilon(kind: str, prediction: Images, xt: Images, alpha: Coefficient, sigma: Coefficient) -> Images:
    """The epsilon that a `prediction` of the given kind means at `xt`."""
    _check(kind)
    if kind == "epsilon":
        return prediction
    if kind == "x0":
        return (xt - alpha * prediction) / sigma
    return sigma * xt + alpha * prediction


def to_velocity(kind: str, prediction: Images, xt: Images, alpha: Coefficient, sigma: Coefficient) -> Images:
    """The velocity that a `prediction` of the given kind means at `xt`."""
    _check(kind)
    if kind == "velocity":
        return prediction
    if kind == "epsilon":
        return (prediction - sigma * xt) / alpha
    return (alpha * xt - prediction) / sigma
