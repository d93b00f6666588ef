"""The run-time check of annotations that conftest installs over all of genmodels."""

from beartype import BeartypeConf, beartype

check = beartype(
    conf=BeartypeConf(is_pep484_tower=True)
)  # an int may stand where a float is expected, as PEP 484 has it
