"""The libraries: each rule of theirs as a map from updates (n, d) and f to their own result.

They are called with their defaults, except for what the definition leaves to the user (radii,
steps, sizes of buckets), which is set to what this package gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, TypeAlias

import numpy as np
import torch
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.server.strategy import aggregate as flower
from flwr.serverapp.strategy import Bulyan, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum

from benchmarks.conformance.compare import Run
from benchmarks.conformance.ours import BUCKET, LIMIT, RADIUS, STEPS, TAU, permutation
from benchmarks.conformance.samples import Float64
from benchmarks.peers import (
    BYZFL_NUMPY,
    BYZFL_TORCH,
    BYZPY,
    KRUM,
    LEGACY,
    MESSAGE,
    imported,
    krum_aggregate,
    taking_part,
)
from clients.tasks.torchvision_ops import import_torchvision_datasets

Called: TypeAlias = Callable[[Any, int], Any]
"""Maps the updates as a library wants them, and f, to its own result."""

GEOM_MEDIAN = "geom-median"

CUT = "cut f / n"
"""Flower's trimmed mean takes a share; f / n is what one would write for f clients."""


@dataclass(frozen=True)
class Peer:
    """A library's rules by the names that they have here.

    Attributes
    ----------
    name, version : str
    runs : mapping of rule to Run
    otherwise : mapping of (rule, how) to Run
        The same rules as one may also call them.
    """

    name: str
    version: str
    runs: Mapping[str, Run]
    otherwise: Mapping[tuple[str, str], Run]


def peers() -> tuple[dict[str, Peer], dict[str, str]]:
    """Return the libraries that are installed, and why the others cannot take part."""
    builders: dict[str, Callable[[], Peer]] = {
        LEGACY: _flower_legacy,
        MESSAGE: _flower_message,
        BYZFL_NUMPY: partial(_byzfl, BYZFL_NUMPY, list),
        BYZFL_TORCH: partial(_byzfl, BYZFL_TORCH, _tensors),
        KRUM: _krum,
        BYZPY: _byzpy,
        GEOM_MEDIAN: _geom_median,
    }
    return taking_part(builders)


def _tensors(rows: Float64) -> list[torch.Tensor]:
    return [torch.from_numpy(row) for row in rows]


def _given(prepare: Callable[[Float64], Any], runs: Mapping[str, Called]) -> dict[str, Run]:
    """Return the runs with the updates as a library wants them."""

    def run(solve: Called, updates: Float64, f: int) -> Any:
        return solve(prepare(updates), f)

    return {name: partial(run, solve) for name, solve in runs.items()}


# --- Flower ---------------------------------------------------------------------------------


def _flower_legacy() -> Peer:
    def results(updates: Float64) -> list[tuple[list[Any], int]]:
        return [([row], 1) for row in updates]

    def trimmed(share: Callable[[int, int], float]) -> Called:
        return lambda v, f: flower.aggregate_trimmed_avg(v, share(f, len(v)))[0]

    runs: dict[str, Called] = {
        "average": lambda v, f: flower.aggregate(v)[0],
        "krum": lambda v, f: flower.aggregate_krum(v, f, 0)[0],
        "multi-krum": lambda v, f: flower.aggregate_krum(v, f, len(v) - f)[0],
        "median": lambda v, f: flower.aggregate_median(v)[0],
        "trimmed-mean": trimmed(_half_a_client_more),
        "bulyan": lambda v, f: flower.aggregate_bulyan(v, f, flower.aggregate_krum, to_keep=0)[0],
    }
    cut = {("trimmed-mean", CUT): _given(results, {"cut": trimmed(_share)})["cut"]}
    return Peer(LEGACY, version("flwr"), _given(results, runs), cut)


def _half_a_client_more(f: int, n: int) -> float:
    """Return a share of n that Flower does not round below f clients."""
    return (f + 0.5) / n


def _share(f: int, n: int) -> float:
    return f / n


@dataclass(frozen=True)
class _Reply:
    """As much of a client's message as a strategy looks at."""

    content: RecordDict

    def has_error(self) -> bool:
        return False


def _flower_message() -> Peer:
    def replies(updates: Float64) -> list[_Reply]:
        return [
            _Reply(
                RecordDict(
                    {"arrays": ArrayRecord([row]), "metrics": MetricRecord({"num-examples": 1})}
                )
            )
            for row in updates
        ]

    def through(strategy: Callable[[int, int], Any]) -> Run:
        def run(updates: Float64, f: int) -> Any:
            arrays, _ = strategy(len(updates), f).aggregate_train(1, replies(updates))
            return arrays.to_numpy_ndarrays()[0]

        return run

    runs = {
        "average": through(lambda n, f: FedAvg()),
        "krum": through(lambda n, f: Krum(num_malicious_nodes=f)),
        "multi-krum": through(
            lambda n, f: MultiKrum(num_malicious_nodes=f, num_nodes_to_select=n - f)
        ),
        "median": through(lambda n, f: FedMedian()),
        "trimmed-mean": through(lambda n, f: FedTrimmedAvg(beta=_half_a_client_more(f, n))),
        "bulyan": through(lambda n, f: Bulyan(num_malicious_nodes=f)),
    }
    cut = {("trimmed-mean", CUT): through(lambda n, f: FedTrimmedAvg(beta=_share(f, n)))}
    return Peer(MESSAGE, version("flwr"), runs, cut)


# --- libraries on flat vectors --------------------------------------------------------------


def _byzfl(name: str, prepare: Callable[[Float64], Any]) -> Peer:
    import_torchvision_datasets()  # byzfl imports torchvision, which needs help beside this torch
    byzfl = imported("byzfl")
    drawn = torch.randperm if name == BYZFL_TORCH else np.random.permutation

    def bucketing(updates: Float64, f: int) -> Any:
        """Shuffle so that its own shuffle, from the same seed, gives our permutation."""
        of_numpy, of_torch = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        theirs = np.asarray(drawn(len(updates)))
        np.random.set_state(of_numpy)  # noqa: NPY002
        torch.set_rng_state(of_torch)
        shuffled = updates[permutation(len(updates))][np.argsort(theirs)]
        return byzfl.Bucketing(BUCKET)(prepare(shuffled))

    runs: dict[str, Run] = {
        "average": lambda v, f: byzfl.Average()(v),
        "krum": lambda v, f: byzfl.Krum(f)(v),
        "multi-krum": lambda v, f: byzfl.MultiKrum(f)(v),
        "median": lambda v, f: byzfl.Median()(v),
        "trimmed-mean": lambda v, f: byzfl.TrMean(f)(v),
        "meamed": lambda v, f: byzfl.Meamed(f)(v),
        "geometric-median": lambda v, f: byzfl.GeometricMedian()(v),
        "minimum-diameter": lambda v, f: byzfl.MDA(f)(v),
        "centered-clipping": lambda v, f: byzfl.CenteredClipping(L=STEPS, tau=TAU)(v),
        "norm-bounding": lambda v, f: byzfl.Average()(byzfl.Clipping(RADIUS)(v)),
        "caf": lambda v, f: byzfl.CAF(f)(v),
        "smea": lambda v, f: byzfl.SMEA(f)(v),
        "monna": lambda v, f: byzfl.MoNNA(f, idx=0)(v),
        "nnm": lambda v, f: byzfl.NNM(f)(v),
        "clipping": lambda v, f: byzfl.Clipping(LIMIT)(v),
        "arc": lambda v, f: byzfl.ARC(f)(v),
    }
    given = {**_given(prepare, runs), "bucketing": bucketing}
    return Peer(name, version("byzfl"), given, {})


def _krum() -> Peer:
    average, median = krum_aggregate("average.Average"), krum_aggregate("median.Median")
    trimmed, nearest = (
        krum_aggregate("trimmed_mean.TrimmedMean"),
        krum_aggregate("nearest_neighbor_average.NearestNeighborAverage"),
    )
    of_n_and_f = {
        "krum": krum_aggregate("krum.Krum"),
        "medoid": krum_aggregate("medoid.Medoid"),
        "geometric-median": krum_aggregate("geometric_median.GeometricMedian"),
        "minimum-diameter": krum_aggregate("brute.Brute"),
        "bulyan": krum_aggregate("bulyan.Bulyan"),
    }
    multi_krum = krum_aggregate("multikrum.MultiKrum")

    def called(aggregate: Any, v: Any, f: int) -> Any:
        return aggregate(v, n=len(v), f=f)

    runs: dict[str, Run] = {
        **{name: partial(called, aggregate) for name, aggregate in of_n_and_f.items()},
        "average": lambda v, f: average(v),
        "median": lambda v, f: median(v),
        "trimmed-mean": lambda v, f: trimmed(v, f=f),
        "multi-krum": lambda v, f: multi_krum(v, n=len(v), f=f, m=len(v) - f),
        "monna": lambda v, f: nearest(v, num_closest=len(v) - f, pivot=v[0]),
    }
    one_by_one = {("bulyan", "m = 1"): lambda v, f: of_n_and_f["bulyan"](v, n=len(v), f=f, m=1)}
    otherwise = {key: _given(_tensors, {"run": solve})["run"] for key, solve in one_by_one.items()}
    return Peer(KRUM, version("krum"), _given(_tensors, runs), otherwise)


def _byzpy() -> Peer:
    by_coordinate = imported("byzpy.aggregators.coordinate_wise")
    geometric = imported("byzpy.aggregators.geometric_wise")
    by_norm = imported("byzpy.aggregators.norm_wise")
    before = imported("byzpy.pre_aggregators")

    def clipped_average(v: Any, f: int) -> Any:
        return torch.stack(before.Clipping(RADIUS).pre_aggregate(v)).mean(dim=0)

    def bucketing(v: Any, f: int) -> Any:
        return before.Bucketing(BUCKET, perm=permutation(len(v))).pre_aggregate(v)

    def centred(**options: Any) -> Run:
        rule = by_norm.CenteredClipping(c_tau=TAU, M=STEPS, **options)
        return lambda v, f: rule.aggregate(v)

    runs: dict[str, Run] = {
        "krum": lambda v, f: geometric.Krum(f).aggregate(v),
        "multi-krum": lambda v, f: geometric.MultiKrum(f, q=len(v) - f).aggregate(v),
        "median": lambda v, f: by_coordinate.CoordinateWiseMedian().aggregate(v),
        "trimmed-mean": lambda v, f: by_coordinate.CoordinateWiseTrimmedMean(f).aggregate(v),
        "meamed": lambda v, f: by_coordinate.MeanOfMedians(f).aggregate(v),
        "geometric-median": lambda v, f: geometric.GeometricMedian().aggregate(v),
        "minimum-diameter": lambda v, f: geometric.MinimumDiameterAveraging(f).aggregate(v),
        "centered-clipping": centred(),
        "norm-bounding": clipped_average,
        "caf": lambda v, f: by_norm.CAF(f).aggregate(v),
        "smea": lambda v, f: geometric.SMEA(f).aggregate(v),
        "cge": lambda v, f: by_norm.ComparativeGradientElimination(f).aggregate(v),
        "monna": lambda v, f: geometric.MoNNA(f, reference_index=0).aggregate(v),
        "nnm": lambda v, f: before.NearestNeighborMixing(f).pre_aggregate(v),
        "bucketing": bucketing,
        "clipping": lambda v, f: before.Clipping(LIMIT).pre_aggregate(v),
        "arc": lambda v, f: before.ARC(f).pre_aggregate(v),
    }
    from_zero = _given(_tensors, {"run": centred(init="zero")})["run"]
    otherwise = {("centered-clipping", 'init="zero"'): from_zero}
    return Peer(BYZPY, version("byzpy"), _given(_tensors, runs), otherwise)


def _geom_median() -> Peer:
    median = imported("geom_median.numpy").compute_geometric_median
    runs: dict[str, Run] = {"geometric-median": lambda v, f: median(list(v)).median}
    return Peer(GEOM_MEDIAN, version("geom-median"), runs, {})
