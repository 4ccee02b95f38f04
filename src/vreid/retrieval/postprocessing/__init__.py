"""Post-processing: one module per step; `pipeline` has their order, `steps` their names."""
