"""What is measured and what is promised: the table of speed and memory goals, as data.

u is the time of one B×B×D product (see `unit`). A bar such as `units(1.2, 2)` reads "at most 1.2 × 2u":
the products a loss cannot do without, times the slack its passes may cost.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Loss = Literal[
    "ranked_list",
    "contrastive",
    "triplet",
    "sup_con",
    "info_nce",
    "nt_xent",
    "n_pairs",
    "angular",
    "multi_similarity",
    "circle",
    "lifted_structure",
    "margin",
]
Kind = Literal["units", "faster", "memory", "gradient", "time of"]


@dataclass(frozen=True)
class Bar:
    """One promise; `limit` in u, times faster, MiB, relative error or times another case's time."""

    kind: Kind
    limit: float
    against: str = ""
    text: str = ""


def units(slack: float, products: float) -> Bar:
    shown = {0.5: "½u", 1.0: "u"}.get(products, f"{products:g}u")
    return Bar("units", slack * products, text=f"≤ {slack:g} × {shown}")


def faster(times: float, baseline: str = "eager") -> Bar:
    return Bar("faster", times, baseline, f"≥ {times:g} × {baseline}")


def memory(mebibytes: float) -> Bar:
    return Bar("memory", mebibytes, text=f"≤ {mebibytes:g} MiB")


def gradient(error: float) -> Bar:
    return Bar("gradient", error, text=f"gradient within {error:g}")


def time_of(case: str, times: float) -> Bar:
    return Bar("time of", times, case, f"≤ {times:g} × {case}")


@dataclass(frozen=True)
class Case:
    """A loss with its options on one batch, forward and backward."""

    name: str
    loss: Loss
    rows: int
    width: int
    data: str
    options: Mapping[str, Any] = field(default_factory=dict)
    per_class: int = 4
    bars: tuple[Bar, ...] = ()
    baselines: tuple[str, ...] = ("eager",)  # in every run
    more: tuple[str, ...] = ()  # baselines that only a full run adds
    headline: bool = True  # part of the default run
    isolated: bool = False  # too long to repeat: time and memory from one run in a process of its own

    @property
    def shape(self) -> str:
        return f"{self.rows}×{self.width}"

    def contenders(self, full: bool) -> tuple[str, ...]:
        """The baselines of a default or a full run."""
        return self.baselines + self.more if full else self.baselines

    def without(self, contender: str) -> "Case":
        """The same with one baseline fewer."""
        return replace(self, baselines=tuple(name for name in self.baselines if name != contender))

    def resized(self, rows: int, width: int | None = None) -> "Case":
        """The same at another size, where no promise holds."""
        return replace(self, rows=rows, width=width or self.width, bars=(), isolated=False)


_EXACT, _BOTH, _QUERY = ({"gradient": rule} for rule in ("exact", "both", "query"))
_HARD, _SEMIHARD, _ALL, _BAND = ({"mining": name} for name in ("hard", "semihard", "all", "semihard_all"))
_RAW = {"normalize": False}
_SYMMETRIC = {"symmetric": True}
_SQUARED = {"neg_margin": 1.2}
_LINEAR = {"neg_margin": 1.2, "power": 1, "reduction": "mean_active"}  # what pytorch-metric-learning computes
_OTHERS = ("chunked", "compiled")
_SWEEP = (units(1.3, 2), faster(3))  # of every loss of pairs: one sweep with its gradient


# fmt: off
_LARGE = (
    Case("rll-exact-4096-early", "ranked_list", 4096, 512, "early", _EXACT,
         bars=(units(1.2, 2), faster(4.5)), baselines=("eager", "chunked", "compiled")),
    Case("rll-both-4096-early", "ranked_list", 4096, 512, "early", _BOTH,
         bars=(units(1.2, 2), faster(4.5)), baselines=("eager", "pml"), more=_OTHERS),
    Case("rll-exact-4096-late", "ranked_list", 4096, 512, "late", _EXACT,
         bars=(units(0.8, 1), faster(10)), more=_OTHERS),
    Case("rll-both-4096-late", "ranked_list", 4096, 512, "late", _BOTH,
         bars=(units(0.8, 1), faster(10)), more=("pml", *_OTHERS)),
    Case("rll-exact-8192-early", "ranked_list", 8192, 128, "early", _EXACT,
         bars=(units(1.45, 2), faster(8)), more=_OTHERS),
    Case("rll-both-8192-early", "ranked_list", 8192, 128, "early", _BOTH,
         bars=(units(1.45, 2), faster(8)), more=_OTHERS),
    Case("rll-exact-8192-late", "ranked_list", 8192, 128, "late", _EXACT, headline=False),
    Case("rll-both-8192-late", "ranked_list", 8192, 128, "late", _BOTH, headline=False),
    Case("rll-query-4096-early", "ranked_list", 4096, 512, "early", _QUERY,
         bars=(units(1.3, 1.5), faster(5)), more=_OTHERS),
    Case("rll-query-4096-late", "ranked_list", 4096, 512, "late", _QUERY, more=_OTHERS),
    Case("rll-query-131072-late", "ranked_list", 131072, 64, "late", _QUERY,
         bars=(units(2, 1.5), memory(320)), baselines=(), isolated=True),
    Case("rll-both-4096-collapsed", "ranked_list", 4096, 512, "collapsed", _BOTH,
         bars=(time_of("rll-both-4096-early", 1.5), gradient(1e-5))),
    Case("rll-both-4096-collapsed-mixed", "ranked_list", 4096, 512, "collapsed-mixed", _BOTH,
         bars=(time_of("rll-both-4096-early", 1.5), gradient(1e-5)), headline=False),
    Case("hard-raw-4096-late", "triplet", 4096, 512, "late", _HARD | _RAW,
         bars=(units(1.3, 0.5), faster(15, "pml")), baselines=("eager", "pml"), more=_OTHERS),
    Case("hard-4096-late", "triplet", 4096, 512, "late", _HARD,
         bars=(units(1.5, 0.5), faster(15, "pml")), baselines=("pml",), more=("eager", *_OTHERS)),
    Case("hard-raw-4096-early", "triplet", 4096, 512, "early", _HARD | _RAW, more=("pml",), headline=False),
    Case("hard-4096-early", "triplet", 4096, 512, "early", _HARD, more=("pml",)),
    Case("semihard-4096-early", "triplet", 4096, 128, "early", _SEMIHARD,
         bars=(units(2.5, 0.5), faster(8, "sort")), baselines=("eager", "sort", "slots"), more=_OTHERS),
    Case("semihard-4096-late", "triplet", 4096, 128, "late", _SEMIHARD,
         baselines=("sort",), more=("eager", "slots", *_OTHERS)),
    Case("all-2048-early", "triplet", 2048, 128, "early", _ALL,
         bars=(units(4, 1),), baselines=("eager", "pml", "cubic"), more=_OTHERS),
    Case("all-2048-late", "triplet", 2048, 128, "late", _ALL, more=("pml", "cubic", *_OTHERS)),
    Case("band-2048-early", "triplet", 2048, 128, "early", _BAND, baselines=("eager", "pml"), headline=False),
    Case("band-2048-late", "triplet", 2048, 128, "late", _BAND, baselines=("eager", "pml"), headline=False),
    Case("contrastive-4096-early", "contrastive", 4096, 512, "early", _SQUARED,
         bars=(units(1.3, 1.5), faster(4, "pml")), baselines=("eager", "pml"), more=_OTHERS),
    Case("contrastive-4096-late", "contrastive", 4096, 512, "late", _SQUARED, more=("pml", *_OTHERS)),
    Case("contrastive-linear-4096-early", "contrastive", 4096, 512, "early", _LINEAR,
         baselines=("eager", "pml"), headline=False),
    Case("supcon-4096-early", "sup_con", 4096, 512, "early",
         bars=(units(1.3, 2), faster(3)), baselines=("eager", "pml"), more=_OTHERS),
    Case("supcon-4096-late", "sup_con", 4096, 512, "late", more=("pml", *_OTHERS), headline=False),
    Case("info-nce-4096-pairs", "info_nce", 4096, 512, "pairs",
         bars=(units(1.3, 3), faster(3)), baselines=("eager", "cross_entropy")),
    Case("info-nce-symmetric-4096-pairs", "info_nce", 4096, 512, "pairs", _SYMMETRIC,
         bars=(units(1.3, 3), faster(3)), baselines=("eager", "cross_entropy"), headline=False),
    Case("hard-symmetric-4096-pairs", "triplet", 4096, 512, "pairs", _HARD | _SYMMETRIC,
         bars=(units(1.3, 1), faster(3)), headline=False),
    Case("semihard-symmetric-4096-pairs", "triplet", 4096, 512, "pairs", _SEMIHARD | _SYMMETRIC,
         bars=(units(1.3, 1), faster(3)), headline=False),
    # pytorch-metric-learning's NT-Xent, angular and margin losses list every (pair, negative): out of memory here
    Case("nt-xent-4096-early", "nt_xent", 4096, 512, "early", bars=_SWEEP, headline=False),
    Case("n-pairs-4096-early", "n_pairs", 4096, 512, "early", bars=_SWEEP, headline=False),
    Case("n-pairs-unique-4096-early", "n_pairs", 4096, 512, "early", {"pairs": "unique"},
         bars=_SWEEP, baselines=("eager", "pml"), headline=False),
    Case("angular-4096-early", "angular", 4096, 512, "early",
         bars=(units(1.3, 0.75), faster(3)), headline=False),
    Case("angular-all-4096-early", "angular", 4096, 512, "early", {"pairs": "all"},
         bars=(units(1.3, 3), faster(3)), headline=False),
    Case("multi-similarity-4096-early", "multi_similarity", 4096, 512, "early",
         bars=_SWEEP, baselines=("eager", "pml"), headline=False),
    Case("multi-similarity-mined-4096-early", "multi_similarity", 4096, 512, "early", {"mining_epsilon": 0.1},
         bars=_SWEEP, baselines=("eager", "pml"), headline=False),
    Case("circle-4096-early", "circle", 4096, 512, "early",
         bars=_SWEEP, baselines=("eager", "pml"), headline=False),
    Case("lifted-structure-4096-early", "lifted_structure", 4096, 512, "early",
         bars=_SWEEP, baselines=("eager", "pml"), headline=False),
    Case("margin-4096-early", "margin", 4096, 512, "early", bars=_SWEEP, headline=False),
)
# fmt: on

_EVERY_LOSS: dict[str, tuple[Loss, dict[str, str]]] = {
    "rll-query": ("ranked_list", _QUERY),
    "rll-both": ("ranked_list", _BOTH),
    "rll-exact": ("ranked_list", _EXACT),
    "contrastive": ("contrastive", {}),
    "hard": ("triplet", _HARD),
    "semihard": ("triplet", _SEMIHARD),
    "all": ("triplet", _ALL),
    "band": ("triplet", _BAND),
    "supcon": ("sup_con", {}),
}
# A small batch must not be slower than the eager oracle either.
_SMALL = tuple(
    Case(f"{name}-128-{data}", loss, 128, 128, data, options, bars=(faster(1),))
    for data in ("early", "late")
    for name, (loss, options) in _EVERY_LOSS.items()
)

CASES: tuple[Case, ...] = _LARGE + _SMALL


def find(name: str) -> Case:
    for case in CASES:
        if case.name == name:
            return case
    raise KeyError(f"no case is named {name!r}; `python -m bench --list` prints them")
