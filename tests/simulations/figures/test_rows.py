from dataclasses import replace

from simulations.figures.rows import COLUMNS, Row, write_rows
from tests.simulations.figures.csv_rows import read_rows

ROWS = [
    Row("4", "", "krum", None, 3, 0, 0, 10, 0.875, 0.25),
    Row("3", "n = 40, f = 18", "multi-krum", 10.0, 10, 2, 4, 500, 1 / 3, None),
]


def test_the_columns_are_these(tmp_path):
    write_rows(tmp_path / "rows.csv", ROWS)
    head = (tmp_path / "rows.csv").read_text().splitlines()[0]
    assert head == "figure,panel,curve,swept,batch,seed,fold,round,accuracy,loss"
    assert head == ",".join(COLUMNS)


def test_numbers_and_their_absence_survive_the_way_through_the_file(tmp_path):
    write_rows(tmp_path / "new" / "rows.csv", ROWS)
    first, second = read_rows(tmp_path / "new" / "rows.csv")
    assert first == ROWS[0]
    assert second == replace(ROWS[1], accuracy=0.3333333)
