"""Post-processing: one file a step, `pipeline` with their order, `steps` with their names."""
