"""Image records, data set readers, sampling, augmentation and loading."""
