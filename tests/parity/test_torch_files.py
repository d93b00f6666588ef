"""Files and distances against PyTorch itself: torch.save's files are read, and LPIPS is what its reference says."""

import numpy as np
import pytest

from genmodels.extractors import perceptual
from genmodels.extractors.torch_file import read_tensors
from genmodels.extractors.weights import digest
from tests.extractors import torch_writer
from tests.extractors.test_torch_file import STATE, assert_equal, flat

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[parity]')")
nn = torch.nn

pytestmark = pytest.mark.slow

# torchvision's `features`: widths of 3x3 convolutions, and 0 for a max pool
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
TAPPED = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}


def alexnet():
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        *(nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(), nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )


def vgg16():
    layers, last = [], 3
    for width in VGG16:
        layers += [nn.Conv2d(last, width, 3, 1, 1), nn.ReLU()] if width else [nn.MaxPool2d(2, 2)]
        last = width or last
    return nn.Sequential(*layers)


class Lpips(nn.Module):
    """The reference's forward pass (lpips/lpips.py, version 0.1)."""

    def __init__(self, kind):
        super().__init__()
        self.features = {"alex": alexnet, "vgg": vgg16}[kind]()
        self.tapped = TAPPED[kind]
        widths = [
            [m for m in self.features[:place] if isinstance(m, nn.Conv2d)][-1].out_channels for place in self.tapped
        ]
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.normal_(module.bias, std=0.1)
        self.linear = [torch.rand(1, width, 1, 1) for width in widths]

    def taps(self, x):
        shift, scale = (torch.tensor(v)[None, :, None, None] for v in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]))
        x = (x - shift) / scale
        for place, module in enumerate(self.features[: self.tapped[-1] + 1]):
            x = module(x)
            if place in self.tapped:
                yield x / (torch.sqrt(torch.sum(x**2, dim=1, keepdim=True)) + 1e-10)

    def forward(self, a, b):
        pairs = zip(self.taps(a), self.taps(b), self.linear, strict=True)
        return sum(nn.functional.conv2d((x - y) ** 2, w).mean([1, 2, 3]) for x, y, w in pairs)


def modern(state, path):
    torch.save(state, path)


def legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("save", [modern, legacy])
def test_a_module_saved_by_torch_is_read(tmp_path, save):
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Linear(5, 2).double(), nn.Linear(2, 2).half())
    state = module.state_dict()
    save(state, tmp_path / "w.pth")
    assert_equal(read_tensors(tmp_path / "w.pth"), {name: value.numpy() for name, value in state.items()})


@pytest.mark.parametrize("save", [modern, legacy])
def test_views_and_parameters_saved_by_torch_are_read(tmp_path, save):
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "whole": base,
        "turned": base.t(),
        "part": base[1:3, ::2],
        "scalar": base[3, 5],
        "empty": base[:0],
        "parameter": nn.Parameter(torch.ones(3)),
        "nested": {"flags": torch.tensor([True, False]), "half": torch.randn(5).half()[2:]},
    }
    save(state, tmp_path / "w.pth")
    expected = {name: value.detach().numpy() for name, value in flat(state).items()}
    assert_equal(read_tensors(tmp_path / "w.pth"), expected)


@pytest.mark.parametrize("save", [modern, legacy])
def test_a_whole_module_is_refused(tmp_path, save):
    save(nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_tensors(tmp_path / "w.pth")


@pytest.mark.parametrize("layout", torch_writer.LAYOUTS)
def test_torch_reads_what_the_tests_write(tmp_path, layout):
    path = torch_writer.save(tmp_path / "w.pth", layout, STATE)
    found = torch.load(path, weights_only=True)
    assert_equal({name: value.numpy() for name, value in flat(found).items()}, flat(STATE))


@pytest.mark.parametrize("kind", TAPPED)
@pytest.mark.parametrize("save", [modern, legacy])
def test_lpips_is_that_of_the_reference(tmp_path, monkeypatch, kind, save):
    reference = Lpips(kind)
    trunk, linear = tmp_path / "trunk.pth", tmp_path / "linear.pth"
    save(reference.state_dict(), trunk)
    save({f"lin{tap}.model.1.weight": weight for tap, weight in enumerate(reference.linear)}, linear)
    monkeypatch.setitem(perceptual.KNOWN, kind, (digest(trunk)[:8], digest(linear)))
    a, b = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 48, 3), dtype=np.uint8)
    b[1] = np.clip(a[1].astype(int) + 20, 0, 255)
    with torch.no_grad():
        pairs = (torch.tensor(x / 127.5 - 1, dtype=torch.float32).permute(0, 3, 1, 2) for x in (a, b))
        expected = reference(*pairs).numpy()
    found = perceptual.load(str(trunk), str(linear))(a, b)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert expected[1] < expected[0] / 2
