import json
import math

from flwr_krum.boundary.replies import Refused
from flwr_krum.certified import RoundCertificate
from flwr_krum.guarantee import Guarantee
from flwr_krum.report import RoundReport
from flwr_krum.report_page.certified import CertifiedRounds, certified_series, of_run
from flwr_krum.report_page.series import cells, series


def test_every_fate_of_a_client_has_its_letter():
    report = RoundReport(
        1, "Krum(f=1)", 1, received=(0, 1, 2), selected=(2,), refused=(Refused(3, "NaN"),),
        failed={4: "it broke"}, silent=(5,), quarantined=(6,),
    )  # fmt: skip
    assert cells(report, range(8)) == "AASRFMQ."


def test_clients_are_partitions_in_order_and_strangers_after_them(make_run):
    strange = RoundReport(
        1, "Krum(f=1)", 1, received=("node 91", 3), refused=(Refused("node 8", "NaN"),),
        failed={"failure 0": "no client is known"},
    )  # fmt: skip
    values = series(make_run(strange, num_clients=4, f=1, attack="gaussian", rule="average"))
    assert values["clients"] == ["0", "1", "2", "3", "node 8", "node 91"]
    assert values["byzantine"] == [3]
    assert values["cells"] == ["...ARA"]
    # Who failed without a name has no row; the table of refusals has it.
    assert values["remarks"] == {0: [[4, 0]]}
    assert values["texts"] == ["refused: NaN"]


def test_scores_stand_beside_their_clients_with_four_digits(make_run):
    scores = {0: 0.123456, 2: math.inf, 3: 1e60 / 3, 4: 0.0}
    scored = RoundReport(1, "Krum(f=1)", 1, received=tuple(range(5)), scores=scores)
    averaged = RoundReport(2, "Average()", 0, received=tuple(range(5)))
    values = series(make_run(scored, averaged))
    assert values["scores"] == [[0.1235, None, "∞", 3.333e59, 0.0, None, None], None]
    assert json.loads(json.dumps(values, allow_nan=False)) is not None


def test_the_guarantee_is_one_letter_and_one_sine_per_round(make_run):
    guarantees = [
        Guarantee("holds", 7, 1, 5.0, 0.1, 2.0, 0.25, 0.1),
        Guarantee("does not hold", 7, 1, 5.0, 0.1, 0.0, None, math.inf),
        Guarantee("cannot be known", 7, 1, reason="the geometry is not finite"),
        None,
    ]
    reports = [RoundReport(t, "Krum(f=1)", 1, guarantee=g) for t, g in enumerate(guarantees, 1)]
    values = series(make_run(*reports))
    assert values["verdicts"] == "hnu-"
    assert values["sines"] == [0.25, None, None, None]
    assert values["reasons"] == {2: 0}
    assert values["note_texts"] == ["the geometry is not finite"]


def test_what_is_not_measured_is_null_and_takes_no_part(make_run):
    run = make_run(RoundReport(1, "Krum(f=1)", 1), RoundReport(2, "Krum(f=1)", 1))
    first, second, third = run.history
    run.history[1] = type(second)(1, None, None)
    run.history[2] = type(third)(2, 0.52, None)
    values = series(run)
    assert values["evaluated"] == [first.round, 2]
    assert values["accuracy"] == [0.5, 0.52]
    assert values["loss"] == [1.0, None]


def test_certificates_are_drawn_from_their_curves_and_what_is_infinite_is_null(make_run):
    known = RoundCertificate(
        "holds", 7, 2, 1.0, 0.5, curve=(0.1, 0.23456, 0.5, math.inf), survives=2
    )
    unknown = RoundCertificate("cannot be known", 4, 2, 1.0, reason="too few")
    reports = [
        RoundReport(t, "Krum(f=1)", 1, certificate=c)
        for t, c in enumerate([None, known, unknown], 1)
    ]
    without = CertifiedRounds("bare", [1], [None])
    (values,) = certified_series([without, of_run(make_run(*reports))])
    assert values == {
        "label": "run", "colour": 1, "rounds": [2, 3], "verdicts": "hu", "survives": [2, -1],
        "curves": [[0.1, 0.235, 0.5, None], []], "n": [7, 4], "f": [2, 2], "limits": [1.0, 1.0],
    }  # fmt: skip
    assert json.dumps(values, allow_nan=False)
