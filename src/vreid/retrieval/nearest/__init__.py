"""Exact nearest neighbours in bounded memory with numpy, the compiled core or a GPU; results are equal.

Import from this package; its modules are internal.
"""

from vreid.retrieval.nearest.core import compiled_core, core_info
from vreid.retrieval.nearest.lists import Lists
from vreid.retrieval.nearest.neighbours import lists_of_rows, nearest, neighbour_lists, search, smallest
from vreid.retrieval.nearest.points import Points, exact_distances

__all__ = [
    "Lists",
    "Points",
    "compiled_core",
    "core_info",
    "exact_distances",
    "lists_of_rows",
    "nearest",
    "neighbour_lists",
    "search",
    "smallest",
]
