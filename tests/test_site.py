"""What the site adds to the pages; `make docs` builds it, and takes no warning."""

import importlib.util
import re
from types import SimpleNamespace

import pytest

from flwr_krum.attacks import ATTACKS, WRAPPERS
from flwr_krum.rules import MIXINGS, RULES
from tests.documents import PAGES, ROOT, read


@pytest.fixture
def site():
    """The extension, which lies beside the pages and in no package."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs/site/pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(site, name, repository=""):
    """Return the source of a page as the site reads it."""
    source = [read(f"docs/{name}.md")]
    site.add_contents(SimpleNamespace(config=SimpleNamespace(repository=repository)), name, source)
    return source[0]


def listed(text):
    """Return the pages in the tables of contents of a page, in their order."""
    tables = re.findall(r"^```\{toctree\}\n(?::[^\n]*\n)*\n(.*?)\n```$", text, re.M | re.S)
    return "\n".join(tables).splitlines()


def test_every_page_stands_in_the_contents_once(site):
    found = [*listed(shown(site, "index")), *listed(shown(site, "rules"))]
    found += [f"attacks/{name}" for name in listed(shown(site, "attacks/README"))]
    pages = [page.removeprefix("docs/").removesuffix(".md") for page in PAGES if "docs/" in page]
    made = [f"rules/{name}" for name in [*RULES, *MIXINGS]]
    assert sorted(found) == sorted({*pages, *made, "examples/README"} - {"index"})
    assert {f"attacks/{name}" for name in [*ATTACKS, *WRAPPERS]} <= set(found)


def test_each_rule_gets_a_page_that_says_how_it_fails(site, tmp_path):
    site.write_rules(SimpleNamespace(srcdir=tmp_path))
    pages = {path.stem: path.read_text() for path in (tmp_path / "rules").iterdir()}
    assert set(pages) == {*RULES, *MIXINGS}
    assert all(page.count("- **Fails**: ") == 1 for page in pages.values())
    assert "without a bound: with 6 liars of 20 " in pages["average"]
    assert "brought kappa to " in pages["krum"]
    assert "not searched: it measures from a model of the server's own" in pages["fltrust"]
    assert "[average](rules/average.md) |" in shown(site, "rules")


def test_a_link_out_of_the_folder_leads_to_the_repository_or_to_the_file(site):
    text = "[a](../examples/a.py) [b](b.md) [c](../CONTRIBUTING.md)"
    assert site.outside(text, "https://h/i/") == (
        "[a](path:../examples/a.py) [b](b.md) [c](https://h/i/blob/HEAD/CONTRIBUTING.md)"
    )
    assert site.outside(text, "").count("](path:../") == 2
    assert "](path:../examples/" in shown(site, "start-server", "https://h/i")


def test_every_example_can_be_downloaded_from_the_page_of_the_examples(site, tmp_path):
    site.write_examples(SimpleNamespace(srcdir=tmp_path))
    page = (tmp_path / "examples/README.md").read_text()
    examples = [path.name for path in (ROOT / "examples").glob("*.*") if path.suffix != ".md"]
    for name in examples:
        assert f"](path:../../examples/{name})" in page
    assert "](examples/README.md)" in shown(site, "index")
