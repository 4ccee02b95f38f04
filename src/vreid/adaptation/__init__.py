"""Unsupervised adaptation: a trained model learns from unlabelled images of new cameras by their clusters."""
