from flwr_krum.report_page.texts import LONGEST, MOST, REST, TextTable, shown


def test_a_text_is_one_line_of_characters_that_can_be_seen():
    assert shown("line\nbreak\tand  spaces") == "line break and spaces"
    assert shown("a\u202eb\u2066c\x00d\x1b[31me\ud800f") == "a�b�c�d�[31me�f"
    assert shown("Größe 梯度 σ²") == "Größe 梯度 σ²"
    assert shown(17) == "17"


def test_a_text_is_cut_short_and_says_so():
    assert shown("x" * LONGEST) == "x" * LONGEST
    assert shown("x" * 100_000) == "x" * (LONGEST - 1) + "…"
    assert len(shown(" \n" * 100_000 + "x")) <= LONGEST


def test_equal_texts_share_a_number():
    table = TextTable()
    assert [table.number(text) for text in ("a", "b", "a", "b\n")] == [0, 1, 0, 1]
    assert table.texts == ["a", "b"]


def test_a_flood_of_different_texts_ends_in_one_that_stands_for_the_rest():
    table = TextTable()
    numbers = [table.number(f"made up {i}") for i in range(MOST + 500)]
    assert numbers[:MOST] == list(range(MOST))
    assert set(numbers[MOST:]) == {MOST}
    assert len(table.texts) == MOST + 1
    assert table.texts[MOST] == REST
    assert table.number("made up 3") == 3
