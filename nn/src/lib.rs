//! Models with explicit forward and backward passes, data sets, samplers and optimizers.
