"""DBSCAN on a sparse distance graph, for the pseudo labels of domain adaptation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.ranges import check_number


def cluster(graph: Any, eps: float, min_samples: int) -> NDArray[np.int64]:
    """Cluster a sparse distance graph (`jaccard_graph`) with DBSCAN; return the label (N,) of each point, -1 for noise.

    The labels equal those of the dense matrix if the graph holds every pair up to `eps`.

    Args:
        graph: (N, N) scipy sparse distances; a pair that is not stored is farther than `eps`.
        eps: largest distance between neighbours.
        min_samples: number of neighbours, itself included, of a core point.

    Raises:
        InputError: the graph is not a square sparse matrix, or a parameter is out of range.

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
    # DBSCAN requires scikit-learn's own form: a csr_matrix with rows sorted by distance
    matrix: Any = sparse.csr_matrix(given, copy=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sparse.SparseEfficiencyWarning)
        matrix.setdiag(matrix.diagonal())  # store the diagonal explicitly: a point is its own neighbour
    matrix = sort_graph_by_row_values(matrix, copy=False, warn_when_not_sorted=False)
    labels: NDArray[np.int64] = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(matrix)
    return labels
