from simulations.figures.rows import COLUMNS, Row, read_rows, write_rows

ROWS = [
    Row("4", "", "krum", None, 3, 0, 0, 10, 0.875, 0.25),
    Row("3", "n = 40, f = 18", "multi-krum", 10.0, 10, 2, 4, 500, 0.1 + 0.2, None),
]


def test_the_columns_are_these(tmp_path):
    write_rows(tmp_path / "rows.csv", ROWS)
    head = (tmp_path / "rows.csv").read_text().splitlines()[0]
    assert head == "figure,panel,curve,swept,batch,seed,fold,round,accuracy,loss"
    assert head == ",".join(COLUMNS)


def test_every_digit_and_every_absence_survives_the_way_through_the_file(tmp_path):
    write_rows(tmp_path / "new" / "rows.csv", ROWS)
    assert read_rows(tmp_path / "new" / "rows.csv") == ROWS
