"""Markdown pages with generated blocks, in between text that stays as it is."""

from __future__ import annotations


def with_block(text: str, name: str, block: str) -> str:
    r"""Return a page's text with a block in its place, which is made at the end if it is not there.

    A place is a pair of comments, ``<!-- figure 4 -->`` and ``<!-- end of figure 4 -->``.

    Examples
    --------
    >>> with_block("Mine.\n<!-- it -->\nold\n<!-- end of it -->\nMine.\n", "it", "new\n")
    'Mine.\n<!-- it -->\nnew\n<!-- end of it -->\nMine.\n'
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    content = f"{begin}\n{block}{end}"
    if begin not in text:
        return f"{text}\n{content}\n" if text else f"{content}\n"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return head + content + tail
