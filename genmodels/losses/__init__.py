"""What networks are trained to make small: pure functions of outputs and targets."""
