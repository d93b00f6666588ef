"""Extractors are chosen by name, and a user's own as module:function."""

import sys

import numpy as np
import pytest

from genmodels.errors import ConfigError, DataError
from genmodels.extractors import NAMES, Extracted, ExtractorSpec, is_published

OWN = """
import numpy as np
from genmodels.extractors import Extracted

class Mean:
    id, sha256, layer, dimension, resize = "mean", "", "mean", 1, "own"

    def __init__(self, **changed):
        self.__dict__ |= changed

    def __call__(self, images):
        return Extracted(images.mean((1, 2, 3), dtype=np.float32)[:, None], None)

class Hashless:
    id, layer, dimension, resize = "mean", "mean", 1, "own"
    __call__ = Mean.__call__

class Silent:
    id, sha256, layer, dimension, resize = "mean", "", "mean", 1, "own"

def taken(): return Mean(id="inception")
def spaced(): return Mean(id="my mean")
def nameless(): return Mean(id=None)
def nothing(): pass
def function(): return lambda images: images
def raising(): raise RuntimeError("first line\\nsecond line")
def demanding(path): return Mean()
number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_extractor.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("import no_such_module_at_all\n")
    (tmp_path / "own_wrong.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("own_extractor", "own_broken", "own_wrong"):
        sys.modules.pop(name, None)


def refusal(*arguments, **options):
    """What choosing or loading it says."""
    with pytest.raises(ConfigError) as caught:
        ExtractorSpec(*arguments, **options).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("digit",), "did you mean 'digits'"),
        (("fashion-mnist",), "did you mean 'fashion_mnist'"),
        (("Inception",), "did you mean 'inception'"),
        (("",), ", ".join(sorted(NAMES))),
        (("digits:path",), "unknown extractor 'digits:path'"),
        (("module:",), "unknown extractor"),
        (("digits", "cleen"), "did you mean 'clean'"),
        (("own:function", "bicubic"), "unknown resize"),
        (("inception", "tf1", "pool4"), "unknown layer of inception 'pool4'"),
        (("inception_unverified:x", "tf1", "spacial"), "did you mean 'spatial'"),
        (("inception_unverified",), "inception_unverified:PATH"),
        (("inception_unverified:",), "inception_unverified:PATH"),
        (("digits", "none", "hidden"), "--layer=hidden"),
        (("own:function", "none", "pool3"), "--layer=pool3"),
    ],
)
def test_unknown_extractors_resizes_and_layers_are_refused(arguments, said):
    assert said in refusal(*arguments)


def test_equal_specs_load_one_extractor():
    assert ExtractorSpec("digits").load() is ExtractorSpec("digits").load()
    assert ExtractorSpec("digits", "clean").load() is not ExtractorSpec("digits").load()
    assert not is_published(ExtractorSpec("digits").load())


@pytest.mark.parametrize("name", NAMES)
def test_the_id_of_a_known_extractor_needs_no_weights(name, monkeypatch, tmp_path):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path))
    assert ExtractorSpec(f"{name}:{tmp_path}/none" if name == "inception_unverified" else name).id == name


def test_a_users_own_extractor_is_loaded_from_its_module(own):
    extractor_spec = ExtractorSpec("own_extractor:Mean")
    assert extractor_spec.id == "mean"
    extractor_spec.check((3, 5, 2))  # nothing is checked: the extractor itself must know which images it takes
    extractor = extractor_spec.load()
    assert not is_published(extractor)
    found = extractor(np.full((2, 3, 5, 1), 7, np.uint8))
    assert isinstance(found, Extracted)
    np.testing.assert_array_equal(found.features, [[7], [7]])


def test_the_current_folder_is_searched_where_python_searches_it_alone(tmp_path, monkeypatch):
    """`python -m` puts it on the path; nothing in this package does."""
    (tmp_path / "own_here.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    with pytest.raises(ConfigError, match="No module named 'own_here'"):
        ExtractorSpec("own_here:Mean").load()
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert ExtractorSpec("own_here:Mean").load().id == "mean"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("no_such_module:function", "No module named 'no_such_module'"),
        ("own_broken:function", "No module named 'no_such_module_at_all'"),
        ("own_wrong:function", "SyntaxError"),
        (":function", "module:function"),
        ("own_extractor:missing", "no attribute 'missing'"),
        ("own_extractor:number", "TypeError"),
        ("own_extractor:demanding", "path"),
        ("own_extractor:raising", "RuntimeError: first line second line"),
        ("own_extractor:nothing", "id, sha256, layer, dimension and resize"),
        ("own_extractor:function", "id, sha256, layer, dimension and resize"),
        ("own_extractor:Hashless", "id, sha256, layer, dimension and resize"),
        ("own_extractor:Silent", "can be called with images"),
        ("own_extractor:taken", "'inception' is taken"),
        ("own_extractor:spaced", "'my mean'"),
        ("own_extractor:nameless", "None"),
    ],
)
def test_functions_that_return_no_valid_extractor_are_refused(own, spec, said):
    message = refusal(spec)
    assert message.startswith(f"--extractor={spec}")
    assert said in message


def test_a_users_own_extractor_keeps_its_resize(own):
    assert "'own'" in refusal("own_extractor:Mean", "tf1")


@pytest.mark.parametrize(
    ("arguments", "shape", "said"),
    [
        (("digits",), (8, 8, 1), None),
        (("digits",), (28, 28, 1), "--resize=clean"),
        (("digits", "clean"), (28, 28, 1), None),
        (("mnist", "tf1"), (28, 28, 3), 'convert="grey"'),
        (("inception", "tf1"), (32, 32, 3), None),
        (("inception", "tf1"), (32, 32, 1), None),
        (("inception",), (299, 299, 3), None),
        (("inception",), (32, 32, 3), "--resize=clean"),
        (("inception_unverified:x", "clean"), (32, 32, 2), 'convert="rgb"'),
    ],
)
def test_images_are_checked_before_weights_are_loaded(arguments, shape, said):
    if said is None:
        return ExtractorSpec(*arguments).check(shape)
    with pytest.raises(DataError, match=arguments[0].partition(":")[0]) as caught:
        ExtractorSpec(*arguments).check(shape)
    assert said in str(caught.value)
