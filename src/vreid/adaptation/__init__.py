"""Unsupervised adaptation: a trained model learns from unlabelled pictures of new cameras by their clusters."""
