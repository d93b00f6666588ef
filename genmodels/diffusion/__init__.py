"""The mathematics of diffusion: schedules, process, parameterizations, guidance, samplers."""
