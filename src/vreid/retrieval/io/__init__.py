"""Files of features, of other programs, and challenge submissions."""
