"""The dashboard shows numbers that there are, and a scrape can be read by Prometheus."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flwr_krum.monitor.exposition import registry_of
from flwr_krum.monitor.monitor import Monitor
from flwr_krum.monitor.tally import METRICS

DASHBOARD = json.loads(
    (Path(__file__).parents[3] / "deploy/grafana-dashboard.json").read_text(encoding="utf-8")
)
GRAFANAS_OWN = {"__rate_interval"}


def scrape(path):
    """Return what Prometheus reads of a journal: sample name to its sets of labels."""
    monitor = Monitor(path, 3, (), print)
    monitor.look()
    text = generate_latest(registry_of(monitor.numbers)).decode()
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample.labels)
    return samples


@pytest.fixture(scope="module")
def samples(journal):
    return scrape(journal)


def queries():
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


EXPOSED = {
    f"flwr_krum_{name}{'_total' if metric.kind == 'counter' else ''}"
    for name, metric in METRICS.items()
}


def test_every_metric_of_the_dashboard_is_exposed_and_every_one_that_is_has_a_panel():
    asked = {name for _, expr in queries() for name in re.findall(r"\bflwr_krum_\w+", expr)}
    assert asked == EXPOSED


def test_a_real_journal_gives_samples_of_these_names(samples):
    of_the_last_round_alone = {
        name for name in EXPOSED if re.search("kappa|radius|surv|sin|step", name)
    }
    assert EXPOSED - of_the_last_round_alone <= samples.keys() <= EXPOSED


def test_a_round_with_a_certificate_and_an_optimizer_shows_them(journal, tmp_path):
    path = tmp_path / "j"
    path.write_text("".join(journal.read_text().splitlines(keepends=True)[:3]))
    assert scrape(path).keys() == EXPOSED


def test_the_labels_that_the_dashboard_asks_for_are_those_of_the_metric(samples):
    for title, expr in queries():
        for name, inside in re.findall(r"(flwr_krum_\w+)\{(.*?)\}", expr):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", inside)) - {"job"}
            metric = name.removeprefix("flwr_krum_").removesuffix("_total")
            assert labels <= set(METRICS[metric].labels), title
    fates = {labels["fate"] for labels in samples["flwr_krum_node_rounds_total"]}
    assert {"selected", "refused", "failed", "silent", "quarantined"} <= fates


def test_panels_do_not_overlap_have_numbers_of_their_own_and_say_what_they_show():
    places, ids = set(), []
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & places, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        places |= cells
        ids.append(panel["id"])
        assert panel["title"]
        assert panel["description"].endswith(".")
    assert len(set(ids)) == len(ids)


def test_every_variable_of_the_dashboard_is_one():
    known = {variable["name"] for variable in DASHBOARD["templating"]["list"]} | GRAFANAS_OWN
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used == known
