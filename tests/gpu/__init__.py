"""What only an accelerator can show, in one command: python -m tests.gpu [--minutes=8] [--only=REGEX] --out=DIR.

It needs this checkout, one device, and `pip install -c constraints.txt -e '.[cuda,dev]'` (or `.[tpu,dev]`). With
`.[parity]` it also measures torch. Without an accelerator everything runs on the CPU at toy size. DIR then holds

    result.json   every entry with its numbers; machine, versions, command and date. Rewritten after each entry.
    result.md     the same as tables
    log.txt       what the programs printed

How to read the tables. An entry has `passed`, `failed` (with its error) or been `skipped` (with what prevented it: a
library that is absent, or the time that `--minutes` gives; the most valuable entries come first). The exit code is 1
when an entry failed.

- step/ROW: two SGD steps of that row of tests/test_conformance.py on the device against the CPU's in float32. The error
  is |device - CPU| / |CPU - start|, with norms over the parameters of one module; the table has that of the worst
  module, which result.json names. `float32` is at the highest matmul precision, `default` at the device's own default
  (TF32 on NVIDIA); each kind has its own tolerance.
- attention/...: cuDNN's fused kernel against XLA's: values, gradients and time.
- resume/ROW: a run that is stopped half-way and resumed ends at the same bits; on NVIDIA with XLA's deterministic
  operations. resume_default/ROW measures, without them, how far apart the two runs end; it cannot fail for that.
- published/...: the experiment's step at its published size, through the loop's own compiled step on host batches.
  `first step` is the first call, compilation included; ms is the median over rounds of steps; memory is the most that
  the device held, in a process of its own. The batch is halved while memory does not suffice.
- torch/...: the same network, batch and precision in torch, with the optimizer, clipping and averaging.
"""
