"""vreid: vehicle re-identification, from pictures of vehicles to "the same vehicle, seen where and when"."""

__version__ = "0.2.0"
