"""Training: losses, optimizers, the fit loop."""
