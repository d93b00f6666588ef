"""The substrate: state, devices, optimizers, checkpoints. It knows no task, no data source and no work directory."""
