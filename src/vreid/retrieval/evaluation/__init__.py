"""Evaluation: metrics, protocols, open-set identification, calibration, ablation, tuning."""
