"""The same features and images give the same numbers as torch-fidelity, pytorch-fid and clean-fid."""

import jax
import numpy as np
import pytest
import scipy.linalg

from genmodels.extractors import inception
from genmodels.extractors.torch_file import read_tensors
from genmodels.metrics import frechet, kernel, precision_recall
from genmodels.metrics.inception_score import ScoreSums
from genmodels.metrics.moments import Gaussian, Moments
from genmodels.metrics.resize import resize, resize_on_host
from genmodels.models.inception import Inception
from tests.parity.tools import NAMES, load, random_inception, without_torchvision

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch", reason="the parity extra is not installed")


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        without_torchvision(patch)
        yield load


def features(seed, count=1500, dimension=64):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(dimension, dimension)) / np.sqrt(dimension)
    return (rng.normal(size=(count, dimension)) @ mixing + 0.1 * seed).astype(np.float32)


A, B = features(0), features(1)


def test_frechet_distances(tool, monkeypatch):
    root = scipy.linalg.sqrtm
    monkeypatch.setattr(scipy.linalg, "sqrtm", lambda matrix, disp: (root(matrix), 0.0))  # gone in SciPy 1.18
    a, b = (Moments.of(x).gaussian() for x in (A, B))
    ours = frechet.frechet_distance(a, b).value
    statistics = [(g.mean, g.full()) for g in (a, b)]
    pytorch_fid, clean_fid = tool("pytorch_fid.fid_score"), tool("cleanfid.fid")
    fidelity = tool("torch_fidelity.metric_fid")
    named = [dict(zip(("mu", "sigma"), one, strict=True)) for one in statistics]
    np.testing.assert_allclose(ours, pytorch_fid.calculate_frechet_distance(*statistics[0], *statistics[1]), rtol=1e-8)
    np.testing.assert_allclose(ours, clean_fid.frechet_distance(*statistics[0], *statistics[1]), rtol=1e-8)
    theirs = fidelity.fid_statistics_to_metric(*named, verbose=False)["frechet_inception_distance"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)


def test_statistics_of_features(tool):
    theirs = tool("torch_fidelity.metric_fid").fid_features_to_statistics(torch.tensor(A))
    ours = Moments.of(A[:700]).merge(Moments.of(A[700:])).gaussian()
    np.testing.assert_allclose(ours.mean, theirs["mu"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ours.full(), theirs["sigma"], rtol=1e-4, atol=1e-6)
    given = Gaussian.given(np.asarray(theirs["mu"]), np.asarray(theirs["sigma"]))
    assert frechet.frechet_distance(ours, given).value < 1e-6


def test_kernel_distances_on_the_same_subsets(tool, monkeypatch):
    clean_fid, fidelity = tool("cleanfid.fid"), tool("torch_fidelity.metric_kid")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rows = [rng.choice(len(A), 400, replace=False) for _ in "ab"]
        ours = kernel.mmd2(A[rows[0]], B[rows[1]])
        x, y = (z[r].astype(np.float64) for z, r in zip((A, B), rows, strict=True))
        np.testing.assert_allclose(ours, float(fidelity.kernel_mmd(x, y)), rtol=1e-6)
        monkeypatch.setattr(np.random, "choice", lambda n, m, replace: np.arange(n))
        theirs = clean_fid.kernel_distance(x, y, num_subsets=1, max_subset_size=len(x))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(("count", "splits"), [(1000, 10), (1003, 10), (500, 1), (777, 7)])
def test_inception_scores(tool, count, splits):
    logits = (3 * features(2, count, 20)).astype(np.float32)
    ours = ScoreSums.empty(count, 20, splits).add(logits).result()
    theirs = tool("torch_fidelity.metric_isc").isc_features_to_metric(torch.tensor(logits), splits, shuffle=False)
    np.testing.assert_allclose(ours, list(theirs.values()), rtol=1e-10)


def test_precision_and_recall(tool):
    prc = tool("torch_fidelity.metric_prc")
    generated, real = (np.round(2 * x[:600, :8]) for x in (A, B))  # whole numbers: distances are exact on both sides
    for theirs in (prc.calculate_precision_recall_full, prc.calculate_precision_recall_part):
        ours = precision_recall.manifolds(real, generated, k=3)
        precision, recall = theirs(torch.tensor(generated), torch.tensor(real), neighborhood=3, batch_size=250)
        np.testing.assert_allclose([ours.precision, ours.recall], [float(precision), float(recall)], rtol=1e-6)


@pytest.mark.parametrize("shape", [(32, 32, 3), (64, 48, 3), (400, 310, 3)])
def test_resizes(tool, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    clean = tool("cleanfid.resize").build_resizer("clean")(image)
    np.testing.assert_allclose(resize_on_host("clean", image, 299), clean, atol=1e-3)
    bilinear = tool("torch_fidelity.interpolate_compat_tensorflow").interpolate_bilinear_2d_like_tensorflow1x
    planes = torch.tensor(image.astype(np.float32)).permute(2, 0, 1)[None]
    tf1 = bilinear(planes, size=(299, 299), align_corners=False)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(resize_on_host("tf1", image, 299), tf1, atol=1e-3)


def test_the_fid_inception_of_torch_fidelity_sees_the_same(tool, tmp_path):
    theirs = random_inception([*NAMES, "logits_unbiased"])
    path = tmp_path / "random.pth"
    torch.save(theirs.state_dict(), path)
    images = np.random.default_rng(0).integers(0, 256, (8, 48, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        planes = torch.tensor(images).permute(0, 3, 1, 2)
        expected = dict(zip([*NAMES, "logits_unbiased"], theirs(planes), strict=True))
    params = {"params": inception.folded(read_tensors(path))}
    taps = jax.jit(lambda x: Inception().apply(params, (resize("tf1", x, 299) - 128) / 128))(images)
    for theirs_name, layer in (NAMES | {"logits_unbiased": "unbiased"}).items():
        wanted = expected[theirs_name].numpy()
        np.testing.assert_allclose(getattr(taps, layer), wanted, atol=1e-5 * np.abs(wanted).max())
