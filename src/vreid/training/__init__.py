"""Training, checkpoints and feature extraction. Import the modules: `vreid.training.supervised`, `.extract`."""
