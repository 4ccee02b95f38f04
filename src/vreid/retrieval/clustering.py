"""Clusters of a sparse graph of distances: the pseudo labels of domain adaptation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.ranges import check_number


def cluster(graph: Any, eps: float, min_samples: int) -> NDArray[np.int64]:
    """DBSCAN on a sparse graph (`jaccard_graph`): a cluster number for each of N points, -1 for outliers.

    The labels are those of the dense matrix, as long as the graph holds every pair up to `eps`.

    Args:
        graph: (N, N) scipy sparse distances; a pair that is not stored is farther than `eps`.
        eps: largest distance of neighbours.
        min_samples: how many neighbours, itself included, make a point the core of a cluster.

    Raises:
        InputError: not a square sparse matrix, or constants out of range.

    Example:
        >>> from scipy.sparse import csr_array
        >>> cluster(csr_array([[0, 0.1, 0], [0.1, 0, 0], [0, 0, 0]]), eps=0.5, min_samples=2).tolist()
        [0, 0, -1]
    """
    import warnings

    from scipy import sparse
    from sklearn.cluster import DBSCAN
    from sklearn.neighbors import sort_graph_by_row_values

    given: Any = graph
    if not sparse.issparse(graph) or given.ndim != 2 or given.shape[0] != given.shape[1] or not given.shape[0]:
        raise InputError("cluster: the graph must be a square scipy.sparse matrix of distances; see jaccard_graph.")
    check_number("cluster: eps", eps, above=0)
    check_number("cluster: min_samples", min_samples, least=1, whole=True)
    # DBSCAN wants what scikit-learn itself makes: a matrix, each row in the order of its distances
    matrix: Any = sparse.csr_matrix(given, copy=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sparse.SparseEfficiencyWarning)
        matrix.setdiag(matrix.diagonal())  # an explicit 0 where nothing is stored: a point is its own neighbour
    matrix = sort_graph_by_row_values(matrix, copy=False, warn_when_not_sorted=False)
    labels: NDArray[np.int64] = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(matrix)
    return labels
