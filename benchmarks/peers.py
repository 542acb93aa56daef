"""The contestants: this package's two paths, Flower's two APIs, and three libraries.

Each gets its inputs as it wants them before the clock starts: layers for this package and for the
functions of Flower's `aggregate_fit`; records of npy bytes for Flower's Message API, which decodes
them within the clock, having no other way in; a list of flat vectors for the others, whose
flattening is thus not charged. Neighbour counts differ by one between libraries, the work does not.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.server.strategy import aggregate as flower
from flwr.serverapp.strategy.multikrum import select_multikrum
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from numpy.typing import NDArray

from benchmarks.data import Case, draw
from clients.tasks.torchvision_ops import import_torchvision_datasets
from flwr_krum.kernel.device import numba_is_installed
from flwr_krum.rules import Aggregate, ClientUpdates, Geometry, Rule
from flwr_krum.rules.written import parse_rule

T = TypeVar("T")

Run: TypeAlias = Callable[[Any, int], Any]
"""Maps prepared inputs and f to the library's own kind of result."""

NUMPY, NUMBA = "ours numpy", "ours numba"
DEVICES = {NUMPY: "cpu:numpy", NUMBA: "cpu:numba"}
OURS = tuple(DEVICES)
LEGACY, MESSAGE = "Flower legacy", "Flower Message"
BYZFL_NUMPY, BYZFL_TORCH = "ByzFL numpy", "ByzFL torch"
KRUM, BYZPY = "krum", "byzpy"
THEIRS = (LEGACY, MESSAGE, BYZFL_NUMPY, BYZFL_TORCH, KRUM, BYZPY)

MEASURED = ("average", "krum", "multi-krum", "medoid", "median", "trimmed-mean", "meamed")
"""Rules that other libraries have in the same form; the others cost what one of these costs."""


class _Blind(Geometry):
    """A geometry that has nothing to say but how many rows there are."""

    n, server_rows = 20, ()

    def _refuse(self) -> Any:
        raise LookupError

    scale = all_products = all_squared = d = property(_refuse)

    def rank(self, *_: object) -> Any:
        """Have no order either."""
        raise LookupError

    def columns(self, *_: object) -> Any:
        """Have no coordinates either."""
        raise LookupError


def _asks_for(name: str) -> str:
    """Return what a rule asks for: "distances", the "coordinates" of each client, or "nothing"."""
    try:
        choice = parse_rule(name, f=1, seed=0).choose(_Blind(), 1)
    except LookupError:
        return "distances"
    return "nothing" if choice.window is None else "coordinates"


_ASKED = {name: _asks_for(name) for name in MEASURED}
DISTANCE_RULES = tuple(name for name, asked in _ASKED.items() if asked == "distances")
RULES = (*DISTANCE_RULES, *(name for name, asked in _ASKED.items() if asked == "nothing"))
COORDINATE_RULES = tuple(name for name, asked in _ASKED.items() if asked == "coordinates")

OTHERS, ONE_MORE = "n - f - 2", "n - f - 1"
"""Closest others in a Krum score: as the paper has it, and one more."""


class AbsentError(Exception):
    """A contestant cannot take part; the text says why."""


@dataclass(frozen=True)
class Contestant:
    """A library's rules, what they are fed, and how their results are read.

    Attributes
    ----------
    name, version : str
    neighbours : str
        Closest others in its Krum score.
    rules : mapping of rule to Run
        Only what the library has.
    prepare : callable, Case -> inputs
        Outside the clock.
    flatten : callable, result -> (d,) vector
        Outside the clock.
    copies : float
        Most memory that inputs and rules take, in units of the case's bytes.
    """

    name: str
    version: str
    neighbours: str
    rules: Mapping[str, Run]
    prepare: Callable[[Case], Any]
    flatten: Callable[[Any], NDArray[Any]]
    copies: float


def contestants() -> tuple[dict[str, Contestant], dict[str, str]]:
    """Return those that can take part, ours first, and why the others cannot."""
    builders: dict[str, Callable[[], Contestant]] = {
        NUMPY: partial(_ours, NUMPY),
        NUMBA: partial(_ours, NUMBA),
        LEGACY: _flower_legacy,
        MESSAGE: _flower_message,
        BYZFL_NUMPY: partial(_byzfl, BYZFL_NUMPY, _as_arrays),
        BYZFL_TORCH: partial(_byzfl, BYZFL_TORCH, _as_tensors),
        KRUM: _krum,
        BYZPY: _byzpy,
    }
    return taking_part(builders)


def taking_part(builders: Mapping[str, Callable[[], T]]) -> tuple[dict[str, T], dict[str, str]]:
    """Return what is built of those that can take part, and why the others cannot."""
    present, absent = {}, {}
    for name, build in builders.items():
        try:
            present[name] = build()
        except AbsentError as reason:
            absent[name] = str(reason)
    return present, absent


def disagreements(present: Mapping[str, Contestant]) -> list[str]:
    """Say who picks another client than this package where all definitions must agree.

    Honest clients of well separated noise and no offset: the same client is best by n - f - 2 and
    by n - f - 1 neighbours, and f Byzantine vectors lie far away. Who errs here does another job.
    """
    found = []
    for n in (12, 40):
        case = draw(n, 2000, f=2, parameter=0.0)
        for rule in RULES:
            answers = {
                name: answer(contestant, rule, case)
                for name, contestant in present.items()
                if rule in contestant.rules
            }
            found += [
                f"{name} disagrees on {rule} at n={n}"
                for name, sample in answers.items()
                if not agree(sample, answers[NUMPY])
            ]
    return found


def answer(contestant: Contestant, rule: str, case: Case) -> NDArray[np.float64]:
    """Return the sampled coordinates of a contestant's result."""
    result = contestant.rules[rule](contestant.prepare(case), case.f)
    return case.sample(contestant.flatten(result))


def agree(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Say whether two results are the same up to float32 rounding."""
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-7))


# --- this package ---------------------------------------------------------------------------


def device_of(name: str) -> str:
    """Return the device that selects one of our paths.

    Raises
    ------
    AbsentError
        If what it needs is not installed.
    """
    if name == NUMBA and not numba_is_installed():
        raise AbsentError("numba is not installed (extra `fast`)")
    return DEVICES[name]


def _ours(name: str) -> Contestant:
    device = device_of(name)

    def updates(case: Case) -> ClientUpdates:
        return ClientUpdates.from_layers(case.models, case.reference, device=device)

    def aggregate(rule: str, case: Case, f: int) -> Aggregate:
        return _rule(rule, case.n, f)(updates(case))

    rules: dict[str, Run] = {rule: partial(aggregate, rule) for rule in _ASKED}
    return Contestant(
        name, version("flwr-krum"), OTHERS, rules, lambda case: case, _our_vector, 0.1
    )


@cache  # so that the clock sees it once at most
def _rule(name: str, n: int, f: int) -> Rule:
    """Return a rule that bears f Byzantine clients, or as many of them as it can among n."""
    rule = parse_rule(name, f=f)
    return rule if rule.suffices(n, f) else rule.fitted(n, rule.most(n))


def _our_vector(result: Any) -> NDArray[Any]:
    return result.vector if isinstance(result, Aggregate) else _concatenate(result)


def _concatenate(layers: Any) -> NDArray[Any]:
    return np.concatenate([np.asarray(layer).ravel() for layer in layers])


# --- Flower ---------------------------------------------------------------------------------


def _flower_legacy() -> Contestant:
    rules: dict[str, Run] = {
        "krum": lambda results, f: flower.aggregate_krum(results, f, 0),
        "multi-krum": lambda results, f: flower.aggregate_krum(results, f, len(results) - f),
        "average": lambda results, f: flower.aggregate(results),
        "median": lambda results, f: flower.aggregate_median(results),
        # Half a client more: int(share * n) must not round below f.
        "trimmed-mean": lambda results, f: flower.aggregate_trimmed_avg(
            results, (f + 0.5) / len(results)
        ),
    }
    return Contestant(LEGACY, version("flwr"), OTHERS, rules, _as_results, _concatenate, copies=2.5)


def _as_results(case: Case) -> list[tuple[list[NDArray[Any]], int]]:
    return [(list(model), 1) for model in case.models]


def _flower_message() -> Contestant:
    def multi_krum(contents: list[RecordDict], f: int) -> ArrayRecord:
        chosen = select_multikrum(contents, f, len(contents) - f)
        return aggregate_arrayrecords(chosen, "num-examples")

    rules: dict[str, Run] = {
        "krum": lambda contents, f: select_multikrum(contents, f, 1)[0]["arrays"],
        "multi-krum": multi_krum,
        "average": lambda contents, f: aggregate_arrayrecords(contents, "num-examples"),
    }
    return Contestant(
        MESSAGE,
        version("flwr"),
        OTHERS,
        rules,
        as_contents,
        lambda record: _concatenate(record.to_numpy_ndarrays()),
        copies=3.5,
    )


def as_contents(case: Case) -> list[RecordDict]:
    """Return what each client's reply holds in the Message API: npy bytes and an example count."""
    return [
        RecordDict(
            {"arrays": ArrayRecord(list(model)), "metrics": MetricRecord({"num-examples": 1})}
        )
        for model in case.models
    ]


# --- libraries on flat vectors --------------------------------------------------------------


def _as_arrays(case: Case) -> list[NDArray[Any]]:
    return list(case.rows)


def _as_tensors(case: Case) -> list[torch.Tensor]:
    return [torch.from_numpy(row) for row in case.rows]


def _byzfl(name: str, prepare: Callable[[Case], Any]) -> Contestant:
    import_torchvision_datasets()  # byzfl imports torchvision, which needs help beside this torch
    byzfl = imported("byzfl")
    rules: dict[str, Run] = {
        "krum": lambda vectors, f: byzfl.Krum(f)(vectors),
        "multi-krum": lambda vectors, f: byzfl.MultiKrum(f)(vectors),
        "average": lambda vectors, f: byzfl.Average()(vectors),
        "median": lambda vectors, f: byzfl.Median()(vectors),
        "trimmed-mean": lambda vectors, f: byzfl.TrMean(f)(vectors),
        "meamed": lambda vectors, f: byzfl.Meamed(f)(vectors),
    }
    copies = 5.0 if prepare is _as_arrays else 4.0
    return Contestant(name, version("byzfl"), ONE_MORE, rules, prepare, np.asarray, copies)


def _krum() -> Contestant:
    kinds = {
        "krum": "krum.Krum",
        "multi-krum": "multikrum.MultiKrum",
        "medoid": "medoid.Medoid",
        "average": "average.Average",
        "median": "median.Median",
        "trimmed-mean": "trimmed_mean.TrimmedMean",
    }
    aggregate = {rule: krum_aggregate(kind) for rule, kind in kinds.items()}
    rules: dict[str, Run] = {
        "krum": lambda v, f: aggregate["krum"](v, n=len(v), f=f),
        "multi-krum": lambda v, f: aggregate["multi-krum"](v, n=len(v), f=f, m=len(v) - f),
        "medoid": lambda v, f: aggregate["medoid"](v, n=len(v), f=f),
        "average": lambda v, f: aggregate["average"](v),
        "median": lambda v, f: aggregate["median"](v),
        "trimmed-mean": lambda v, f: aggregate["trimmed-mean"](v, f=f),
    }
    return Contestant(KRUM, version("krum"), OTHERS, rules, _as_tensors, np.asarray, copies=4.0)


def krum_aggregate(place: str) -> Callable[..., Any]:
    """Return an aggregator of the library krum by its module and class, such as "krum.Krum"."""
    module, _, name = place.partition(".")
    aggregate: Callable[..., Any]
    aggregate = getattr(imported(f"krum.primitives.aggregators.{module}"), name).aggregate
    return aggregate


def _byzpy() -> Contestant:
    geometric = imported("byzpy.aggregators.geometric_wise.krum")
    coordinate = imported("byzpy.aggregators.coordinate_wise")
    rules: dict[str, Run] = {
        "krum": lambda v, f: geometric.Krum(f).aggregate(v),
        "multi-krum": lambda v, f: geometric.MultiKrum(f, q=len(v) - f).aggregate(v),
        "median": lambda v, f: coordinate.CoordinateWiseMedian().aggregate(v),
        "trimmed-mean": lambda v, f: coordinate.CoordinateWiseTrimmedMean(f).aggregate(v),
        "meamed": lambda v, f: coordinate.MeanOfMedians(f).aggregate(v),
    }
    return Contestant(BYZPY, version("byzpy"), ONE_MORE, rules, _as_tensors, np.asarray, copies=3.0)


def imported(module: str) -> ModuleType:
    """Return a library's module.

    Raises
    ------
    AbsentError
        If the library is not installed, or its import fails.
    """
    package = module.partition(".")[0]
    if find_spec(package) is None:
        raise AbsentError(f"{package} is not installed (`make bench` installs it)")
    try:
        return importlib.import_module(module)
    except Exception as error:  # a library beside versions that it does not promise to bear
        raise AbsentError(f"import of {module} failed: {type(error).__name__}: {error}") from error
