import pytest

from flwr_krum.boundary.replies import Refused
from flwr_krum.fates import FATES, fate_in_full, fates
from flwr_krum.report import RoundReport

REPORT = RoundReport(
    server_round=1, rule="Krum(f=2)", byzantine=2, received=(0, 1, 2, 3, 5), selected=(2,),
    refused=(Refused(6, "array 'w': holds NaN"),), silent=(4,), late=(8,), quarantined=(7,),
    failed={3: "Node Unavailable"}, doubted={5: "claims nan examples"}, stepped=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (2, "selected"),
        (0, "passed over"),
        (5, "passed over, doubted: claims nan examples"),
        (6, "refused: array 'w': holds NaN"),
        (3, "failed: Node Unavailable"),
        (4, "silent"),
        (8, "silent (late)"),
        (7, "quarantined"),
        (9, "not asked"),
    ],
)
def test_the_fate_of_each_client_is_said_with_what_the_report_knows_of_it(client, said):
    assert fate_in_full(REPORT, client) == said


def test_in_full_a_fate_begins_with_its_one_word():
    found = fates(REPORT)
    assert set(found.values()) == set(FATES)
    for client, fate in found.items():
        assert fate_in_full(REPORT, client).startswith(fate)
