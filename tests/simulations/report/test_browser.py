"""The page as people meet it: in headless Chromium, without a word on the console."""

import math
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from flwr_krum.boundary.replies import Refused
from flwr_krum.certified import RoundCertificate
from flwr_krum.guarantee import Guarantee
from flwr_krum.report import RoundReport
from flwr_krum.report_page.certified import CertifiedRounds
from flwr_krum.report_page.journals import JournalRun
from flwr_krum.report_page.render import render

PHONE = {"width": 390, "height": 844, "phone": True}


def two_rounds(make_run, **config):
    """Return a run of two rounds and seven clients, the last two hostile."""
    first = RoundReport(
        1, "Krum(f=2)", 2, received=(0, 1, 2, 3, 4, 5), refused=(Refused(6, "holds NaN"),),
        stepped=True,
        scores={0: 3.0, 1: 1.5, 2: 0.25, 3: 8.0, 4: 9.0, 5: 0.125}, selected=(5,),
        certificate=RoundCertificate("holds", 6, 1, 1.0, 0.2, 3.0, 1),
        guarantee=Guarantee("does not hold", 6, 1, 5.0, 1.0, 0.1, 50.0, 2500.0),
    )  # fmt: skip
    second = RoundReport(
        2, "Krum(f=2)", 2, received=tuple(range(7)), selected=(2,), note="nobody moved",
        scores={i: float(i) for i in range(7)},
        guarantee=Guarantee("cannot be known", 7, 2, reason="3 are too few"),
    )  # fmt: skip
    return make_run(first, second, f=2, attack="malformed", **config)


def texts(page, selector):
    return page.evaluate(f"[...document.querySelectorAll({selector!r})].map(e => e.innerText)")


def colour_at(page, x, y):
    """Return the colour of a map's pixel, read from a copy as the map is not made for reading."""
    return page.evaluate(
        "(() => { const copy = document.createElement('canvas').getContext('2d');"
        f"copy.drawImage(document.querySelector('canvas'), {-x}, {-y});"
        "return `rgb(${[...copy.getImageData(0, 0, 1, 1).data].slice(0, 3).join(', ')})`; })()"
    )


@pytest.mark.parametrize(
    "window",
    [{}, {"dark": True}, PHONE, {**PHONE, "dark": True}],
    ids=["light", "dark", "phone", "phone-dark"],
)
def test_a_page_opens_without_a_complaint_and_fits_its_window(open_page, make_run, window):
    page = open_page(two_rounds(make_run, label="a"), two_rounds(make_run, label="b"), **window)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.querySelectorAll('path.curve').length") >= 4
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, background.strip("rgb()").split(","))) > 3 * 128
    assert light != window.get("dark", False)
    assert len(page.screenshot()) > 10_000


def test_a_run_without_rounds_and_a_run_without_evaluations_are_no_error(open_page, make_run):
    bare = make_run(RoundReport(1, "Medoid()", 0, received=(0, 1), stepped=True), label="bare")
    bare.history.clear()
    page = open_page(make_run(label="young"), bare)
    assert "No round is over yet." in texts(page, ".heat")[0]
    assert page.evaluate("document.querySelector('#sine svg').textContent").endswith("in any round")


def test_pointing_at_a_cell_tells_its_score_rank_and_fate(open_page, make_run):
    page = open_page(two_rounds(make_run))
    # Two rounds of 18 pixels stand at the left of the map, seven rows of 16 pixels from its top.
    wide, tall = page.evaluate(
        "(b => [b.width, b.height])(document.querySelector('.spread').getBoundingClientRect())"
    )

    def tip(t, i):
        page.point_at(".spread", (t + 0.5) * 18 / wide, (i + 0.5) * 16 / tall)
        return page.tip

    assert tip(0, 1) == [
        "round 1, client 1", "accepted, not selected", "score 1.500, rank 3 of 6", "Krum(f=2)"
    ]  # fmt: skip
    assert tip(0, 5)[:3] == ["round 1, Byzantine client 5", "selected", "score 0.1250, rank 1 of 6"]
    assert tip(0, 6) == ["round 1, Byzantine client 6", "refused: holds NaN", "Krum(f=2)"]
    assert tip(1, 2)[1:] == [
        "selected", "score 2, rank 3 of 7", "nobody moved", "Krum(f=2): no step"
    ]  # fmt: skip
    page.point_at("h1")
    assert page.tip == []


def test_cells_have_the_colours_of_the_legend(open_page, make_run):
    page = open_page(two_rounds(make_run))
    seen = [colour_at(page, t * 18 + 8, i * 16 + 7) for t, i in [(0, 5), (1, 2), (0, 0), (0, 6)]]
    legend = page.evaluate(
        "['B', 'S', 'A', 'R'].map(c => getComputedStyle(document.querySelector("
        "`#cells-legend rect.c${c}`)).fill)"
    )
    assert seen == legend
    assert len(set(seen)) == 4


def test_the_keyboard_reaches_every_cell_and_every_point(open_page, make_run):
    page = open_page(two_rounds(make_run))
    page.evaluate("document.querySelector('.heat').focus()")
    page.press("ArrowRight")
    assert page.tip[0] == "round 1, client 0"
    page.press("ArrowRight", "ArrowDown", "ArrowDown")
    assert page.tip[:3] == ["round 2, client 2", "selected", "score 2, rank 3 of 7"]
    page.press("Home", "ArrowUp")
    assert page.tip[0] == "round 1, client 1"
    page.press("Escape")
    assert page.tip == []
    page.evaluate("document.querySelector('#accuracy .plot').focus()")
    page.press("End")
    assert page.tip == ["round 2", "run\n0.5200"]
    page.press("ArrowLeft")
    assert page.tip == ["round 1", "run\n0.5100"]
    page.evaluate("document.querySelector('#sine .plot').focus()")
    page.press("Home")
    assert page.tip == ["round 1", "run\ndoes not hold, sin(α) 50"]
    page.press("ArrowRight")
    assert page.tip == ["round 2", "run\ncannot be known, sin(α) –", "3 are too few"]


def test_on_a_phone_a_map_scrolls_beside_its_names_and_fades_where_more_follows(
    open_page, large_run
):
    page = open_page(large_run(400, 7, 2), **PHONE)
    scroll = "document.querySelector('.heat .scroll')"
    left = "document.querySelector('.heat .names').getBoundingClientRect().left"
    before = page.evaluate(left)
    assert page.evaluate(f"{scroll}.classList.contains('more')")
    page.evaluate(f"{scroll}.scrollLeft = 1e6")
    page.settle()
    assert page.evaluate(f"{scroll}.scrollLeft") > 0
    assert page.evaluate(left) == before >= 0
    assert not page.evaluate(f"{scroll}.classList.contains('more')")


def test_a_curve_that_ends_early_says_why(open_page, make_run):
    whole = make_run(*[RoundReport(t, "Krum(f=2)", 2) for t in range(1, 5)], label="whole")
    cut = make_run(RoundReport(1, "Krum(f=2)", 2), label="cut", num_server_rounds=9)
    short = make_run(RoundReport(1, "Krum(f=2)", 2), label="short")
    broken = make_run(*[RoundReport(t, "Krum(f=2)", 2) for t in range(1, 5)], label="broken")
    broken.history[3:] = [replace(record, loss=math.inf) for record in broken.history[3:]]
    page = open_page(whole, cut, short, broken)
    rest = "cut has 1 of its 9 rounds: it was cut short, or still goes on. short has 1 rounds."
    assert texts(page, "#accuracy .ends") == [rest]
    assert texts(page, "#loss .ends") == [f"{rest} broken is not finite after round 2."]
    page.click("#runs-legend label:nth-child(2) input")
    assert "cut" not in texts(page, "#accuracy .ends")[0]


def test_the_bars_beside_all_maps_are_on_one_scale(open_page, make_run):
    often = make_run(*[RoundReport(t, "Krum(f=2)", 2, selected=(3,)) for t in (1, 2)], label="a")
    once = make_run(
        RoundReport(1, "Krum(f=2)", 2, selected=(3,)), RoundReport(2, "Krum(f=2)", 2), label="b"
    )
    page = open_page(often, once, make_run(label="young"))
    widths = page.evaluate(
        "[...document.querySelectorAll('.shares')].map(s => "
        "Math.max(...[...s.querySelectorAll('rect')].map(r => Number(r.getAttribute('width')))))"
    )
    assert widths[0] == 2 * widths[1] == 30


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_colours_of_runs_are_told_from_each_other_and_from_the_paper(open_page, make_run, dark):
    page = open_page(make_run(), dark=dark)
    colours = page.evaluate(
        "(() => { const e = document.body.appendChild(document.createElement('i'));"
        "return [...Array(7).keys()].map(c => { e.className = `c${c}`;"
        "e.style.color = 'var(--run)'; return getComputedStyle(e).color; })"
        ".concat(getComputedStyle(document.body).backgroundColor); })()"
    )
    places = [lab(*map(int, re.findall(r"\d+", colour))) for colour in colours]
    distances = {pair: math.dist(*(places[i] for i in pair)) for pair in combinations(range(8), 2)}
    assert min(distances.values()) > 30, min(distances, key=distances.get)


def lab(*rgb):
    """Return a colour in CIE L*a*b*, where distances are as people see them (D65)."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(rgb) / 255
    ]
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(matrix) @ linear / [0.95047, 1.0, 1.08883])
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_a_run_can_be_hidden_from_the_curves(open_page, make_run):
    page = open_page(two_rounds(make_run, label="a"), two_rounds(make_run, label="b"))
    curves = "document.querySelectorAll('#accuracy path.curve').length"
    assert page.evaluate(curves) == 2
    page.click("#runs-legend input")
    assert page.evaluate(curves) == 1
    page.point_at("#accuracy .plot")
    assert page.tip == ["round 1", "b\n0.5100"]


def test_the_button_turns_the_theme_and_the_maps_with_it(open_page, make_run):
    page = open_page(two_rounds(make_run))

    def colours():
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return colour_at(page, 8, 7), paper

    before = colours()
    page.click("#theme")
    assert all(new != old for new, old in zip(colours(), before, strict=True))
    page.click("#theme")
    assert colours() == before


def test_a_table_is_copied_as_tab_separated_text(open_page, make_run):
    page = open_page(two_rounds(make_run))
    page.call("Browser.grantPermissions", permissions=["clipboardReadWrite"])
    page.call("Page.bringToFront")
    page.click("#refusals .copy")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.replace("\r", "").split("\n") == [
        "client\trole\twhat\treason\ttimes\tfirst round\tlast round",
        "6\tByzantine\trefused\tholds NaN\t1\t1\t1",
    ]
    assert texts(page, "#refusals .copy") == ["Copied"]


def test_the_table_of_rounds_is_built_when_it_is_opened(open_page, make_run):
    page = open_page(two_rounds(make_run))
    assert page.evaluate("document.querySelectorAll('.rounds table').length") == 0
    page.click(".rounds summary")
    heads = texts(page, ".rounds thead th")
    rows = page.evaluate(
        "[...document.querySelectorAll('.rounds tbody tr')].map(r => [...r.cells]"
        ".map(c => c.innerText))"
    )
    assert dict(zip(heads, rows[0], strict=True)) == {
        "round": "1", "accuracy": "0.5100", "loss": "0.9900", "accepted": "6", "refused": "1",
        "failed": "0", "silent": "0", "f in force": "2", "selected": "1",
        "Byzantine selected": "1", "certificate": "holds",
        "guarantee": "does not hold", "sin(α)": "50", "moved": "yes",
        "rule": "Krum(f=2)", "note": "",
    }  # fmt: skip
    assert rows[1][-3:] == ["no", "Krum(f=2)", "nobody moved"]


def test_hostile_texts_run_nowhere(open_page, run_with_texts, hostile_texts):
    page = open_page(run_with_texts(hostile_texts))
    page.click(".rounds summary")
    page.evaluate("document.querySelector('.heat').focus()")
    page.press("ArrowRight", *["ArrowDown"] * 6)
    assert f"refused: {hostile_texts[0]}" in page.tip
    page.press(*["ArrowDown"] * 4)
    assert "<" in page.tip[0]
    page.evaluate("document.querySelector('#sine .plot').focus()")
    page.press("Home")
    assert hostile_texts[0] in page.tip
    assert page.evaluate("typeof window.owned") == "undefined"
    assert page.evaluate("document.querySelectorAll('img, b, svg[onload]').length") == 0


def test_even_a_script_that_got_through_would_not_run(browser, make_run, tmp_path):
    html = render([two_rounds(make_run)])
    path = tmp_path / "broken.html"
    path.write_text(html.replace("<main>", "<main><script>window.owned=1</script>"))
    browser.open(path)
    assert browser.evaluate("typeof window.owned") == "undefined"
    (complaint,) = browser.complaints
    assert "Content Security Policy" in complaint


def test_an_error_on_the_console_would_not_go_unnoticed(browser, make_run, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render([two_rounds(make_run)]))
    browser.open(path)
    assert browser.complaints == []
    browser.evaluate("setTimeout(() => { throw Error('thrown') }); console.error('said')")
    browser.evaluate("new Promise(go => setTimeout(go, 50))")
    said, thrown = browser.complaints
    assert "said" in said
    assert "thrown" in thrown


def test_500_rounds_of_100_clients_stay_responsive(open_page, large_run):
    page = open_page(large_run(), **PHONE)
    spent = page.evaluate("performance.timing.loadEventEnd - performance.timing.responseEnd")
    # What people feel as a delay begins at about 100 ms; this machine may be busy.
    assert spent < 3000
    moves = page.evaluate(
        "(scroll => { const b = scroll.getBoundingClientRect(), start = performance.now();"
        "for (let k = 0; k < 100; k++) scroll.dispatchEvent(new PointerEvent('pointermove',"
        "{clientX: b.left + k, clientY: b.top + 5 * k, pointerType: 'mouse'}));"
        "return (performance.now() - start) / 100; })(document.querySelector('.heat .scroll'))"
    )
    assert moves < 50
    page.evaluate("document.querySelector('.heat .scroll').scrollLeft = 1e6")
    page.settle()
    page.evaluate("document.querySelector('.heat').focus()")
    page.press("Escape", "End")
    assert page.tip[0] == "round 500, client 0"


def test_on_paper_the_page_is_light_and_its_maps_are_whole(open_page, large_run):
    page = open_page(large_run(500, 10, 3), width=600, dark=True)
    whole = (
        "(e => e.querySelector('.spread').offsetWidth <= e.clientWidth)"
        "(document.querySelector('.heat .scroll'))"
    )
    assert not page.evaluate(whole)
    page.call("Emulation.setEmulatedMedia", media="print")
    page.settle()
    assert page.evaluate(whole)
    background = page.evaluate("getComputedStyle(document.querySelector('.sheet')).backgroundColor")
    assert background == "rgb(255, 255, 255)"


# --- certificates ---


def certified(label, *survived):
    """Return certificates of seven clients, f = 2, that survive so many liars."""
    found = [
        RoundCertificate(
            "holds" if k >= 2 else "does not hold", 7, 2, 1.0, 0.5,
            curve=tuple(0.25 * (i + 1) if i <= k else 9.0 for i in range(4)), survives=k,
        )
        for k in survived
    ]  # fmt: skip
    return CertifiedRounds(label, range(1, len(found) + 1), found)


@pytest.mark.parametrize("window", [{}, PHONE], ids=["desktop", "phone"])
def test_rules_on_the_same_replies_have_a_strip_and_a_curve_each(
    browser, make_run, tmp_path, window
):
    path = tmp_path / "report.html"
    rules = [certified("first", 3, 1, 3), certified("second", 2, 2, 0)]
    path.write_text(render([two_rounds(make_run)], rules), encoding="utf-8")
    page = browser
    page.open(path, **window)
    assert texts(page, "#certified-legend label") == ["first", "second"]
    assert page.evaluate("document.querySelectorAll('#survives rect').length") == 5
    assert page.evaluate("document.querySelectorAll('#kappa path.curve').length") == 2
    assert "limit 1" in page.evaluate("document.querySelector('#kappa svg').textContent")
    page.point_at("#survives .plot", x=0.5)
    assert page.tip == [
        "round 2",
        "first\ndoes not hold, up to 1 liars",
        "second\nholds, up to 2 liars",
    ]
    page.evaluate("document.querySelector('#survives .plot').focus()")
    page.press("Home")
    assert texts(page, "#round-shown") == ["round 1"]
    page.evaluate("document.querySelector('#kappa .plot').focus()")
    page.press("End")
    assert page.tip == [
        "round 1: if 3 of the accepted lied", "first\nkappa at most 1", "second\nkappa at most 9",
    ]  # fmt: skip
    page.click("#certified-legend label")
    assert page.evaluate("document.querySelectorAll('#kappa path.curve').length") == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.complaints == []


def test_the_certificates_of_runs_are_drawn_in_the_colours_of_the_runs(open_page, make_run):
    bare = make_run(RoundReport(1, "Average()", 0, received=(0, 1), stepped=True), label="bare")
    page = open_page(bare, two_rounds(make_run, label="judged"))
    assert page.evaluate("document.querySelector('#survives line.curve').classList.contains('c1')")
    assert "no curve in this round" in page.evaluate("document.querySelector('#kappa').textContent")


def test_a_page_without_certificates_shows_none_of_their_pictures(open_page, make_run):
    page = open_page(make_run(RoundReport(1, "Average()", 0, received=(0, 1), stepped=True)))
    assert page.evaluate("document.getElementById('certificates').hidden")


def test_a_page_from_a_journal_alone_shows_its_rounds_and_nothing_that_nobody_knows(open_page):
    report = RoundReport(
        1, "Krum(f=1)", 1, received=("a", "b"), scores={"a": 1.0, "b": 2.0}, selected=("a",),
        silent=("c",), stepped=True,
    )  # fmt: skip
    page = open_page(JournalRun("mine", Path("journal.jsonl"), [report]))
    page.evaluate("document.querySelector('details.rounds').open = true")
    page.settle()
    heads, cells = (
        page.evaluate(f"[...document.querySelectorAll('.rounds {of}')].map(x => x.innerText)")
        for of in ("th[scope=col]", "tbody tr > *")
    )
    shown = dict(zip(heads, cells, strict=True))
    assert not {"accuracy", "loss", "Byzantine selected"} & set(heads)
    counted = [shown[name] for name in ("round", "accepted", "silent", "selected")]
    assert counted == ["1", "2", "1", "1"]
    assert page.evaluate("document.querySelectorAll('.heat canvas').length") == 1
    assert page.evaluate("document.getElementById('learning')") is None
