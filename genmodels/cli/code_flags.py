"""The flag of the commands that open a work directory whose config may name code outside this package."""

from absl import flags

ALLOW_CODE = flags.DEFINE_bool(
    "allow_code",
    False,
    "Import code outside genmodels, module:function, that a work directory names. Importing code runs it.",
)
