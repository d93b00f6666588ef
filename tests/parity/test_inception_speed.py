import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(
    importlib.util.find_spec("torch_fidelity") is None or importlib.util.find_spec("torch") is None,
    reason="make test-slow installs torch and torch-fidelity where it can",
)
def test_features_of_the_fid_inception_come_nearly_as_fast_as_from_torch():
    env = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "PJRT_NPROC")}
    launch = [sys.executable, "-m", "tests.parity.inception_speed"]
    result = subprocess.run(launch, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout.splitlines()[-1])
    print(found)
    assert found["relative_difference"] < 1e-5
    assert 1.3 * found["images_per_s"]["genmodels"] >= found["images_per_s"]["torch"], found
