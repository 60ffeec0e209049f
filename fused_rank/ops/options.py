"""The words that options are written in, shared by every layer."""

from typing import Literal, TypeAlias

Metric: TypeAlias = Literal["euclidean", "sqeuclidean", "cosine"]
RetrievalMetric: TypeAlias = Literal["euclidean", "sqeuclidean", "cosine", "dot"]
PairMetric: TypeAlias = RetrievalMetric  # of pair operators: what a term gets as its distance
Reduction: TypeAlias = Literal["mean", "mean_active", "sum", "none"]
Mining: TypeAlias = Literal["semihard", "hard", "all", "semihard_all"]
Gradient: TypeAlias = Literal["query", "both", "exact"]
PositiveMean: TypeAlias = Literal["active", "all"]
PairChoice: TypeAlias = Literal["all", "unique"]

METRICS: tuple[Metric, ...] = ("euclidean", "sqeuclidean", "cosine")
RETRIEVAL_METRICS: tuple[RetrievalMetric, ...] = (*METRICS, "dot")
REDUCTIONS: tuple[Reduction, ...] = ("mean", "mean_active", "sum", "none")
MININGS: tuple[Mining, ...] = ("semihard", "hard", "all", "semihard_all")
GRADIENTS: tuple[Gradient, ...] = ("query", "both", "exact")
POSITIVE_MEANS: tuple[PositiveMean, ...] = ("active", "all")
PAIR_CHOICES: tuple[PairChoice, ...] = ("all", "unique")
