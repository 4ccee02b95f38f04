"""Campaigns against vreid: kills, full disks, damaged files, fuzzed input. `make soak`, or `python -m soak --help`."""
