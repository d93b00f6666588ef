"""Tests of genmodels, in folders that mirror it."""

import importlib.metadata

# Tests run many programs for a few steps each: compile fast rather than run fast.
QUICK_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
# XLA ends a process over a flag that it does not know; these halve the time again and are known to be in this version.
# The last one compiles a program in one piece. Compiling its parts at the same time takes more CPU time in all, and the
# other worker needs the other core.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    QUICK_COMPILE += " --xla_cpu_use_fusion_emitters=false --xla_cpu_emitter_verification_level=0"
    QUICK_COMPILE += " --xla_cpu_parallel_codegen_split_count=1"
