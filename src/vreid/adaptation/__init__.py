"""Unsupervised adaptation of a trained model to unlabelled cameras by pseudo labels."""
