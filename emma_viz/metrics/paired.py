"""Are two models' answers to the same questions different? McNemar's exact test, and one that minds clusters."""

import numpy as np
from jaxtyping import Bool, Int

PERMUTATIONS = 10_000
_SEED = 20241


def mcnemar(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> float:
    """McNemar's exact two-sided p, of the rows that one model alone has right; 1 where there is none.

    It takes rows to be independent, which rows of one image are not; see `cluster_p`.
    """
    from scipy.stats import binomtest  # slow to import, and only needed here

    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    return float(binomtest(one, one + other).pvalue) if one + other else 1.0


def cluster_p(
    first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"], cluster: Int[np.ndarray, " n"]
) -> float:
    """Two-sided p of a permutation test that swaps the models' names for whole clusters at a time.

    (1 + how often the difference is as large) / (1 + PERMUTATIONS); 1 where no row differs.
    """
    gaps = np.bincount(cluster, weights=first.astype(float) - second.astype(float))
    gaps = gaps[gaps != 0]
    if not len(gaps):
        return 1.0
    rng = np.random.default_rng([_SEED, len(gaps)])
    signs = rng.integers(0, 2, size=(PERMUTATIONS, len(gaps)), dtype=np.int8) * 2 - 1
    found = np.abs(signs @ gaps)
    return float((1 + np.count_nonzero(found >= abs(gaps.sum()) - 1e-9)) / (1 + PERMUTATIONS))
