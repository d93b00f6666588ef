import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from genmodels.nn.quantize import Codebook, nearest, shares_and_sums, straight_through, update

Z = jax.random.normal(jax.random.key(0), (40, 3))
BOOK = Codebook.init(jax.random.key(1), 6, 3)


def test_the_nearest_code_equals_that_of_an_exhaustive_search():
    np.testing.assert_array_equal(nearest(BOOK.vectors, Z), cdist(Z, BOOK.vectors).argmin(axis=1))


def test_straight_through_returns_the_codes_and_passes_gradients_unchanged():
    codes = BOOK.vectors[nearest(BOOK.vectors, Z)]
    np.testing.assert_allclose(straight_through(Z, codes), codes, atol=1e-6)
    weights = jax.random.normal(jax.random.key(2), Z.shape)
    np.testing.assert_array_equal(jax.grad(lambda z: jnp.sum(weights * straight_through(z, codes)))(Z), weights)


def step(book, z, key=0, decay=0.9, revive_below=0.0):
    codes = nearest(book.vectors, z)
    used = shares_and_sums(z, codes, len(book.share))
    return update(book, used, z, jax.random.key(key), decay=decay, revive_below=revive_below)


def test_codes_converge_to_the_means_of_the_latents_assigned_to_them():
    """The fixed point of the running means is that of k-means (Lloyd 1982): each code is its rows' mean."""
    book = BOOK
    for _ in range(200):
        book, revived = step(book, Z)
        assert revived == 0
    codes = np.asarray(nearest(book.vectors, Z))
    for code in np.unique(codes):
        np.testing.assert_allclose(book.vectors[code], Z[codes == code].mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(book.share[code], np.mean(codes == code), atol=1e-4)


def test_an_unused_code_keeps_its_vector_unless_it_is_revived():
    far = BOOK._replace(total=BOOK.total.at[2].set(jnp.full(3, 100 / 6)))  # a vector of 100s
    kept, revived = far, 0
    for _ in range(300):
        kept, now = step(kept, Z, decay=0.5)  # its share ends at 2^-300, but for the floor
        revived += now
    assert revived == 0
    np.testing.assert_allclose(kept.vectors[2], 100, rtol=1e-3)
    assert np.isfinite(kept.vectors).all()
    seen, counts = far, []
    for key in range(60):
        seen, now = step(seen, Z, key, revive_below=0.01)
        counts.append(int(now))
    assert sum(counts[:40]) == 0  # 0.9^40 > 0.01 of an equal share
    assert sum(counts) >= 1
    assert cdist(seen.vectors[2:3], Z).min() < 2  # among the rows now
    assert len(np.unique(nearest(seen.vectors, Z))) == 6
