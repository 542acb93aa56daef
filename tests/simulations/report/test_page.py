"""The page as a text: what it holds, and that nothing in it can escape."""

import json
import re
from html.parser import HTMLParser

import pytest

from flwr_krum.report import RoundReport
from flwr_krum.report_page.render import render
from flwr_krum.report_page.texts import shown


class Skeleton(HTMLParser):
    """The elements of a page with the names of their attributes, and the text between them."""

    def __init__(self, html):
        super().__init__()
        self.elements = []
        self.texts = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, [name for name, _ in attrs]))

    def handle_endtag(self, tag):
        self.elements.append(f"/{tag}")

    def handle_comment(self, data):
        self.elements.append("comment")

    def handle_data(self, data):
        self.texts.append(data)


def harmless(texts):
    return [f"text {i}" for i, _ in enumerate(texts)]


def data_of(html):
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    return json.loads(data)["runs"]


def test_no_text_of_a_client_becomes_an_element_or_an_attribute(run_with_texts, hostile_texts):
    hostile = Skeleton(render([run_with_texts(hostile_texts)]))
    tame = Skeleton(render([run_with_texts(harmless(hostile_texts))]))
    assert hostile.elements == tame.elements
    assert hostile.elements.count("/script") == 2
    assert hostile.elements.count("/style") == 1


def test_hostile_texts_are_shown_as_they_are(run_with_texts, hostile_texts):
    html = render([run_with_texts(hostile_texts)])
    texts = Skeleton(html).texts
    (values,) = data_of(html)
    for text in hostile_texts:
        assert shown(text) in texts
        assert f"refused: {shown(text)}" in values["texts"]
        assert f"node {shown(text)}" in values["clients"]


def test_the_inlined_data_holds_no_character_that_could_end_it(run_with_texts, hostile_texts):
    html = render([run_with_texts(hostile_texts)])
    (data,) = re.findall(r'id="data">(.*)</script>\n<script type="module">', html)
    assert not set(data) & set("<>&'\u2028\u2029")


def test_the_page_is_self_contained_and_forbids_itself_to_load_anything(make_run):
    html = render([make_run(RoundReport(1, "Krum(f=1)", 1))])
    assert not re.findall(r"\b(?:src|action|srcset|poster)\s*=|@import|url\(|\bimport\b", html)
    assert all(link.startswith("#") for link in re.findall(r'href="(.*?)"', html))
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', html)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_data_are_those_of_the_run(make_run):
    reports = [
        RoundReport(1, "Krum(f=1)", 1, received=(0, 1), scores={0: 2.0, 1: 1.0}, selected=(1,)),
        RoundReport(2, "Krum(f=1)", 1, received=(0, 1), scores={0: 0.5, 1: 1.0}, selected=(0,)),
    ]
    first, second = data_of(render([make_run(*reports, num_clients=3), make_run(label="b")]))
    assert first["cells"] == ["AS.", "SA."]
    assert first["scores"] == [[2.0, 1.0, None], [0.5, 1.0, None]]
    assert first["accuracy"] == [0.5, 0.51, 0.52]
    assert (second["label"], second["rounds"]) == ("b", [])


@pytest.mark.parametrize(("rounds", "n", "megabytes"), [(500, 100, 1.0), (500, 20, 0.4)])
def test_a_large_run_is_a_small_file(large_run, rounds, n, megabytes):
    html = render([large_run(rounds, n, n // 3)])
    assert 0.1 < len(html.encode()) / 1e6 < megabytes
