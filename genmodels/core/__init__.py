"""What everything else is built on: state, devices, optimizers, checkpoints.

Nothing in here knows a task, a data source or the layout of a work directory.
"""
