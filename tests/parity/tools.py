"""Other tools' metrics, for comparison.

Their formulas need no torchvision, though their packages import it: they are installed without it (see the Makefile)
and an empty module takes its place.
"""

import importlib
import importlib.util
import sys
from unittest.mock import MagicMock

import pytest

TORCHVISION = [
    "torchvision",
    *(f"torchvision.{part}" for part in ("datasets", "models", "transforms", "transforms.functional")),
]
NAMES = {"64": "pool1", "192": "pool2", "768": "mixed6", "2048": "pool3", "logits": "logits"}  # theirs: ours


def load(name):
    """A module of another tool; skips where that is not installed."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name}: make test-slow installs it where it can")
    return importlib.import_module(name)


def without_torchvision(patch):
    """Lets their packages be imported for as long as the monkeypatch lasts."""
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        for name in TORCHVISION:
            patch.setitem(sys.modules, name, MagicMock())


def random_inception(outputs):
    """torch-fidelity's FID Inception with random weights, giving the named outputs."""
    import torch

    network = load("torch_fidelity.feature_extractor_inceptionv3").FeatureExtractorInceptionV3
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *args, **kwargs: {})  # it wants weights of its own
        patch.setattr(network, "load_state_dict", lambda self, state: None)
        theirs = network("inception", outputs, feature_extractor_weights_path="none")
    for parameter in theirs.parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
    for norm in (module for module in theirs.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.normal_(norm.running_mean, std=0.1)
        torch.nn.init.uniform_(norm.running_var, 1.0, 1.3)
    return theirs
