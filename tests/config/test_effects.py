"""No key is without effect in silence."""

import pytest

from genmodels import config as config_lib
from genmodels import loop
from genmodels.errors import ConfigError
from genmodels.runs import resume
from genmodels.runs.catalogue import entries
from genmodels.runs.experiment import load
from tests.helpers import EXPERIMENTS, ROOT, experiment

IDLE = [  # an experiment, values, and the key that they leave without effect with what it needs
    (
        "ddpm_digits",
        {"optim.weight_decay": 0.1},
        r"optim\.weight_decay=0\.1 .*optim\.name=adamw or lion; leave it at 0\.0",
    ),
    ("ddpm_digits", {"optim.name": "sgd", "optim.b1": 0.5}, r"optim\.b1=0\.5 .*adam or adamw or lion"),
    ("ddpm_digits", {"optim.name": "lion", "optim.eps": 1e-6}, r"optim\.eps"),
    ("ddpm_digits", {"optim.momentum": 0.5}, r"optim\.momentum=0\.5 .*=sgd"),
    ("ddpm_digits", {"optim.name": "adamw", "optim.no_decay": (".*",)}, r"optim\.no_decay.*weight_decay"),
    ("ddpm_digits", {"ema.horizon": 0.1, "ema.decay": 0.9}, r"ema\.decay=0\.9 .*ema\.horizon=0\.0"),
    ("ddpm_digits", {"ema.horizon": 0.0, "ema.warmup": False}, r"ema\.warmup=False .*horizon or"),
    ("ddpm_digits", {"init_fresh": (".*",)}, r"init_fresh.*init_from"),
    ("ddpm_digits", {"diffusion.vlb_weight": 0.1}, r"vlb_weight.*loss=hybrid"),
    ("ddpm_digits", {"diffusion.snr_gamma": 1.0}, r"snr_gamma.*weighting=min_snr"),
    ("ddpm_digits", {"diffusion.logit_mean": 1.0}, r"logit_mean.*time_sampling=logit_normal"),
    (
        "ddpm_digits",
        {"diffusion.conditional": False, "diffusion.label_dropout": 0.2},
        r"label_dropout.*conditional=True",
    ),
    ("ddpm_digits", {"model.head_channels": 8, "model.heads": 2}, r"heads=2 .*head_channels=0"),
    (
        "ddpm_digits",
        {"model.multipliers": (1,), "model.downsample_padding": "symmetric"},
        r"downsample_padding.*two levels",
    ),
    ("vae_digits", {"model.network": "mlp", "model.channels": (8, 8)}, r"model\.channels"),
    ("vae_digits", {"model.activation": "tanh"}, r"activation.*network=mlp"),
    ("vae_digits", {"vae.latent": "vq", "vae.beta": 2.0}, r"beta=2\.0 .*latent=gaussian"),
    ("vae_digits", {"vae.commitment": 1.0}, r"commitment.*latent=vq"),
    ("gan_digits", {"gan.penalty": "none", "gan.penalty_weight": 1.0}, r"penalty_weight.*wgan_gp or r1"),
    ("gan_digits", {"model.architecture": "resnet", "model.kernel": 5}, r"model\.kernel=5 .*dcgan"),
    ("gan_digits", {"optim.generator.momentum": 0.5}, r"optim\.generator\.momentum=0\.5 .*do not set it"),
    (
        "gan_digits",
        {"optim.generator.clip_norm": 1.0, "optim.discriminator.clip_norm": 2.0, "optim.clip_norm": 3.0},
        r"optim\.clip_norm=3\.0 .*discriminator\.clip_norm and config\.optim\.generator\.clip_norm are set",
    ),
    ("classifier_digits", {"distill.alpha": 0.1}, r"distill\.alpha=0\.1 .*distill\.teacher"),
    ("classifier_digits", {"distill.teacher": "a", "distill.hard": True, "distill.temperature": 2.0}, r"temperature"),
]
LIVE = [
    ("ddpm_digits", {"optim.name": "adamw", "optim.weight_decay": 0.1, "optim.no_decay": (".*",)}),
    ("ddpm_digits", {"optim.name": "sgd", "optim.momentum": 0.5}),
    ("ddpm_digits", {"ema.horizon": 0.0, "ema.decay": 0.9, "ema.warmup": False}),
    (
        "gan_digits",
        {"optim.name": "sgd", "optim.generator.name": "adam", "optim.generator.b1": 0.1, "optim.momentum": 0.1},
    ),
    ("gan_digits", {"optim.generator.clip_norm": 1.0, "optim.clip_norm": 3.0}),
    ("vae_digits", {"vae.latent": "vq", "ema.horizon": 0.0, "vae.commitment": 1.0}),
]


def plain(name, values):
    """The tiny variant with these values, the optimizer otherwise as nobody sets it."""
    config = experiment(name)
    config.optim.update(config_lib.defaults().optim)
    config.update_from_flattened_dict(values)
    return config


@pytest.mark.parametrize(("name", "values", "words"), IDLE)
def test_a_key_without_effect_is_refused_and_says_what_it_needs(name, values, words):
    with pytest.raises(ConfigError, match=rf"^config\..*{words}"):
        config_lib.validate(plain(name, values), 1)


@pytest.mark.parametrize(("name", "values"), LIVE)
def test_a_key_with_effect_is_not(name, values):
    config_lib.validate(plain(name, values), 1)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_set_nothing_without_effect(name):
    for entry in entries(ROOT / "experiments" / f"{name}.py")[1]:
        config_lib.validate(load("--config", entry.name), 1)


def test_a_run_of_before_with_such_a_key_goes_on(small, tmp_path):
    config = small("ddpm_digits")
    assert loop.train(config, tmp_path / "run", lambda step: 85 if step == 3 else None) == 85
    text = (tmp_path / "run" / "config.json").read_text()
    (tmp_path / "run" / "config.json").write_text(text.replace('"momentum": 0.9', '"momentum": 0.5'))
    again = resume.config_to_resume(tmp_path / "run", allow_code=False)
    assert again.optim.momentum == 0.9
    assert loop.train(config, tmp_path / "run", lambda step: 85 if step == 4 else None) == 85
    assert loop.train(again, tmp_path / "run") == 0


def test_another_choice_leaves_out_what_it_has_no_use_for():
    config = load("--config", str(ROOT / "experiments" / "ddpm_digits.py"))
    assert config.likelihood.strata > 0
    flow, left_out = config_lib.switched(config, {"diffusion.process": "flow"})
    config_lib.validate(flow, 1)
    assert (flow.likelihood.strata, left_out["likelihood.strata"]) == (0, config.likelihood.strata)
    config.optim.momentum = 0.5  # without effect before the switch, too: a mistake, which stays to be refused
    flow, left_out = config_lib.switched(config, {"diffusion.process": "flow"})
    assert "optim.momentum" not in left_out
    with pytest.raises(ConfigError, match=r"optim\.momentum"):
        config_lib.validate(flow, 1)
