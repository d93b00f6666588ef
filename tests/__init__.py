"""Tests of genmodels, in folders that mirror it."""

# Tests run many programs for a few steps each: compile fast rather than run fast.
QUICK_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
