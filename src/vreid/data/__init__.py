"""Records of images, the readers that make them, and the way from a record to a training batch."""
