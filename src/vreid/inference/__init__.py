"""Embed images in memory with a trained model, in torch or in onnxruntime, and export models to ONNX."""
