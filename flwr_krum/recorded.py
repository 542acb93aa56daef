"""What is left of a round when its models are gone: who was how far from whom, in a file.

From the n x n distances and inner products any rule that chooses by them alone can be asked again
what it would have chosen, and its choice be certified, without training again. A line of the file
is a round, there as a whole or not at all; the arrays in it are float64, little end first.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from flwr_krum.boundary.replies import ClientId
from flwr_krum.certificate import certify
from flwr_krum.certified import RoundCertificate
from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.enclosure import Points
from flwr_krum.kernel.recorded import RecordedGeometry
from flwr_krum.lines import FileError, Line, LineWriter, check_is_file, check_is_next, read_lines
from flwr_krum.rules.rule import Aggregate, Choice

_BEGINNING = b'{"server_round": '


@dataclass(frozen=True)
class RecordedRound:
    """The geometry of a round's accepted replies, and what the rule made of it.

    Attributes
    ----------
    server_round : int
    f : int
        The f in force.
    limit : float
        Of the round's certificate.
    clients : n client ids
    server_rows : names of the server's s rows
    d : int
        Coordinates that a distance saw.
    points : Points
        Clients, server rows and the global model.
    products : (n + s, n + s)
        Inner products of their offsets from the global model.
    weights : (n,) or (n + s,), or None
        What the aggregate was made of; the rest to the sum 1 lay on the global model.
    heights, heights_error : (n,), or None
        In the place of weights, where coordinates were sorted: squared distances of the aggregate
        from the clients, and by how much they may be wrong.
    """

    server_round: int
    f: int
    limit: float
    clients: tuple[ClientId, ...]
    server_rows: tuple[str, ...]
    d: int
    points: Points
    products: Float64
    weights: Float64 | None = None
    heights: Float64 | None = None
    heights_error: Float64 | None = None

    @classmethod
    def of(
        cls,
        server_round: int,
        aggregate: Aggregate,
        clients: tuple[ClientId, ...],
        f: int,
        limit: float,
    ) -> Self:
        """Take what is kept of a round; the inner products, where the rule needed none.

        Those are a pass over the models, ``n^2 d / 2`` multiplications. Not for products of layers.
        """
        geometry, choice = aggregate.geometry, aggregate.choice
        points = geometry.points()
        weights = heights = error = None
        if choice.window is None:
            weights = choice.mix[0]
        else:
            heights, error = geometry.squared_from(aggregate.layers, points.scale)
        return cls(
            server_round,
            f,
            limit,
            clients,
            geometry.server_rows,
            geometry.d,
            points,
            geometry.all_products,
            weights,
            heights,
            error,
        )

    @cached_property
    def geometry(self) -> RecordedGeometry:
        """What a rule decides by."""
        return RecordedGeometry(self.points, self.products, self.server_rows, self.d)

    def certified(self, choice: Choice) -> RoundCertificate:
        """Certify the mixture that a rule chooses among these replies, before any rounding.

        Raises
        ------
        ValueError
            If the choice sorts coordinates.
        """
        if choice.window is not None:
            raise ValueError("a choice that sorts coordinates has no weights to certify it by")
        return self._of_weights(choice.mix[0])

    def certified_as_it_was(self) -> RoundCertificate:
        """Certify the aggregate that the round had, before any rounding."""
        if self.weights is not None:
            return self._of_weights(self.weights)
        assert self.heights is not None
        assert self.heights_error is not None
        n = self.points.n
        alone = Points(
            self.points.squared[:n, :n], self.points.error[:n, :n], n, scale=self.points.scale
        )
        found = certify(
            alone,
            None,
            self.f,
            limit=self.limit,
            heights=self.heights,
            heights_error=self.heights_error,
        )
        return RoundCertificate.of(found, self.clients, centred=False)

    def _of_weights(self, weights: Float64) -> RoundCertificate:
        found = certify(self.points, weights, self.f, limit=self.limit)
        return RoundCertificate.of(found, self.clients, centred=True)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values; of symmetric matrices one half."""
        return {
            "server_round": self.server_round,
            "f": self.f,
            "limit": self.limit,
            "clients": list(self.clients),
            "server_rows": list(self.server_rows),
            "d": self.d,
            "scale": self.points.scale,
            "squared": _packed(_half(self.points.squared)),
            "error": _packed(_half(self.points.error)),
            "products": _packed(_half(self.products)),
            **{
                name: _packed(array)
                for name in _OF_THE_AGGREGATE
                if (array := getattr(self, name)) is not None
            },
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the values are not a record's.
        """
        for name, kind in _KINDS.items():
            if not isinstance(values[name], kind):
                raise TypeError(f"{name} is {values[name]!r}")
        n, s = len(values["clients"]), len(values["server_rows"])
        squared, error = (_whole(_unpacked(values[name]), n + s + 1) for name in _OF_POINTS)
        made_of = {name: _unpacked(values[name]) for name in _OF_THE_AGGREGATE if name in values}
        sizes = {name: array.size for name, array in made_of.items()}
        weighs = sizes in ({"weights": n}, {"weights": n + s})
        if not weighs and sizes != {"heights": n, "heights_error": n}:
            raise ValueError(f"expected weights or heights of {n} clients, got sizes {sizes}")
        return cls(
            server_round=values["server_round"],
            f=values["f"],
            limit=values["limit"],
            clients=tuple(values["clients"]),
            server_rows=tuple(values["server_rows"]),
            d=values["d"],
            points=Points(squared, error, n, True, values["scale"]),
            products=_whole(_unpacked(values["products"]), n + s),
            **made_of,
        )


_OF_POINTS = ("squared", "error")
_OF_THE_AGGREGATE = ("weights", "heights", "heights_error")
_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("server_round", "f", "d"), int),
    **dict.fromkeys(("limit", "scale"), float),
    **dict.fromkeys(("clients", "server_rows"), list),
}
"""What the JSON value of a field is."""


def _half(matrix: Float64) -> Float64:
    half: Float64 = matrix[np.triu_indices(len(matrix))]
    return half


def _whole(half: Float64, p: int) -> Float64:
    """Return the symmetric (p, p) matrix of an upper half.

    Raises
    ------
    ValueError
        If it is that of another size.
    """
    matrix = np.zeros((p, p))
    upper = np.triu_indices(p)
    if half.shape != upper[0].shape:
        raise ValueError(f"{half.size} numbers are no half of a matrix of {p} rows")
    matrix[upper] = half
    matrix.T[upper] = half
    return matrix


def _packed(array: Float64) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<f8").tobytes()).decode("ascii")


def _unpacked(text: str) -> Float64:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)
    except binascii.Error as error:
        raise ValueError(f"an array is damaged: {error}") from error


class DistancesFile:
    """Appends the geometry of one run's rounds to a file that nobody else writes meanwhile.

    A round is on its way to the disk when it is written: it outlives the process, however that
    ends, and not the machine, unlike the journal's.

    Parameters
    ----------
    path : str or Path
        The file; it and its folder are made.
    rounds_done : int (default: 0)
        The rounds that the run goes on from. What the file holds of later ones, and a line that a
        crash tore, is dropped when the next round is written.

    Raises
    ------
    FileError
        If the file holds rounds and ``rounds_done`` is 0, is damaged, or cannot be written.
    """

    def __init__(self, path: str | Path, rounds_done: int = 0) -> None:
        self.path = Path(path)
        check_is_file(self.path)
        found = _read(self.path) if self.path.exists() else []
        if found and rounds_done == 0:
            raise FileError(
                f"{self.path} already holds {len(found)} rounds: go on from the last one with "
                "rounds_done=, or name another file"
            )
        kept = [line for line in found if line.value.server_round <= rounds_done]
        self._last = rounds_done
        self._writer = LineWriter(self.path, kept[-1].end if kept else 0, sync=False)

    def append(self, record: RecordedRound) -> None:
        """Write one round.

        Raises
        ------
        FileError
            If it cannot be written, or is not later than the last one.
        """
        check_is_next(self.path, record.server_round, self._last)
        self._writer.append(json.dumps(record.to_json(), allow_nan=False).encode())
        self._last = record.server_round


def read_distances(path: str | Path) -> list[RecordedRound]:
    """Read the geometry of a run's rounds; a last line that a crash tore is left out.

    Raises
    ------
    FileError
        If another line is no round, or one does not follow the one before it.
    FileNotFoundError
        If there is no such file.
    """
    return [line.value for line in _read(Path(path))]


def _read(path: Path) -> list[Line[RecordedRound]]:
    def parse(text: bytes) -> RecordedRound:
        return RecordedRound.from_json(json.loads(text))

    found = read_lines(path, parse, "the distances of a round", _BEGINNING)
    for before, after in itertools.pairwise(line.value.server_round for line in found):
        if after <= before:
            raise FileError(
                f"{path}: round {after} follows round {before}: more than one run has written it"
            )
    return found
