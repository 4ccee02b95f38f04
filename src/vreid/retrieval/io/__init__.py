"""Feature files of vreid and of other programs, and challenge submissions."""
