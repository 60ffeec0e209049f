"""The operators of a backend: one set of schemas that each backend registers in its own namespace."""

SCHEMAS: dict[str, str] = {
    "pair_forward": (
        "(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, Tensor? inputs, str term, float[] params,"
        " str metric, bool normalize, str fused, bool symmetric) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
    "pair_backward": (
        "(Tensor grad_sums, Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, Tensor? inputs,"
        " str term, float[] params, str metric, bool normalize, bool query_only, bool symmetric, Tensor state,"
        " Tensor live, Tensor grad_x, Tensor grad_gallery, bool need_x, bool need_gallery, bool need_inputs)"
        " -> (Tensor, Tensor, Tensor)"
    ),
    "triplet_forward": (
        "(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, str mining, float margin,"
        " bool soft_margin, str metric, bool normalize, bool symmetric=False) -> (Tensor, Tensor, Tensor)"
    ),
    "triplet_backward": (
        "(Tensor grad_sums, Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, str mining,"
        " float margin, bool soft_margin, str metric, bool normalize, Tensor state, Tensor live, Tensor rows,"
        " bool need_x, bool need_gallery, bool symmetric=False) -> (Tensor, Tensor)"
    ),
    "mine_hard": (
        "(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, str metric, bool normalize,"
        " bool symmetric=False) -> (Tensor, Tensor)"
    ),
    "mine_semihard": (
        "(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, str metric, bool normalize,"
        " bool symmetric=False) -> (Tensor, Tensor, Tensor)"
    ),
    "topk": (
        "(Tensor queries, Tensor? gallery, int k, str metric, bool normalize, bool exclude_self) -> (Tensor, Tensor)"
    ),
    "rank_positives": (
        "(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, int[] cutoffs, str metric, bool normalize)"
        " -> Tensor"
    ),
    "find_partner": (
        "(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, bool positives, bool farthest,"
        " Tensor? above, Tensor? below, str metric, bool normalize) -> (Tensor, Tensor)"
    ),
    "sample_negatives": (
        "(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, Tensor draws, float cutoff, float limit)"
        " -> Tensor"
    ),
    "triplet_counts": (
        "(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, float margin, str metric, bool normalize)"
        " -> Tensor"
    ),
    "distance_histogram": (
        "(Tensor x, Tensor? labels, Tensor? gallery, Tensor? gallery_labels, float[] edges, str metric,"
        " bool normalize) -> Tensor"
    ),
    "indexed_distance": (
        "(Tensor x, Tensor? gallery, Tensor? i, Tensor? j, str metric, bool normalize) -> Tensor"
    ),
    "indexed_distance_backward": (
        "(Tensor grad, Tensor x, Tensor? gallery, Tensor? i, Tensor? j, str metric, bool normalize, bool need_x,"
        " bool need_gallery) -> (Tensor, Tensor)"
    ),
}

# channels of each pair term, numbers per query that enter it, and rows of the state that the compiled forward
# keeps for its backward
PAIR_CHANNELS = {
    "ranked_list": 1,
    "contrastive": 2,
    "sup_con": 1,
    "negatives_lse": 1,
    "softplus_negatives": 1,
    "softplus_positives": 1,
    "multi_similarity": 1,
    "circle": 1,
    "lifted": 1,
    "margin": 2,
    "midpoints": 1,
}
PAIR_INPUTS = {
    "ranked_list": 0,
    "contrastive": 0,
    "sup_con": 0,
    "negatives_lse": 0,
    "softplus_negatives": 1,
    "softplus_positives": 1,
    "multi_similarity": 2,
    "circle": 0,
    "lifted": 0,
    "margin": 1,
    "midpoints": 0,
}
PAIR_STATE_ROWS = {
    "ranked_list": 6,
    "contrastive": 0,
    "sup_con": 4,
    "negatives_lse": 2,
    "softplus_negatives": 3,
    "softplus_positives": 2,
    "multi_similarity": 4,
    "circle": 3,
    "lifted": 3,
    "margin": 3,
    "midpoints": 0,
}
WHOLE_ROWS = frozenset(
    {"sup_con", "softplus_negatives", "circle", "lifted", "midpoints"}
)  # whose gradient, made in forward, comes in one part, not two
SWEPT_TERMS = frozenset(PAIR_CHANNELS) - {
    "midpoints"
}  # whose numbers are those of one pair; the rest are the compiled CPU backend's alone


def pair_row_count(queries: int, gallery: int, symmetric: bool) -> int:
    """Rows that a pair loss reports: the queries, and in the symmetric form the gallery's rows after them."""
    return queries + gallery if symmetric else queries


RANK_MEASURES = 5  # rows of `rank_positives` before those of the cutoffs
TRIPLET_COUNTS = 7  # rows of `triplet_counts`


def triplet_state_rows(mining: str) -> int:
    """Rows of the compiled triplet state."""
    return 2 if mining == "hard" else 64
