def test_report_writes_one_page_about_the_runs_that_it_is_given(cli, tmp_path):
    for rule in ("krum", "average"):
        done = cli("run", "--rule", rule, "--rounds", "2", "--run-dir", f"runs/{rule}")
        assert done.exit_code == 0, done.output
    result = cli("report", "runs/krum", "runs/average")
    assert result.exit_code == 0, result.output
    assert "report: runs/report.html" in result.output
    html = (tmp_path / "runs/report.html").read_text()
    assert "<title>krum, average · resilience report</title>" in html
    assert cli("report", "runs/krum", "--page", "elsewhere/one.html").exit_code == 0
    assert (
        "krum on spambase, 20 clients, no attack" in (tmp_path / "elsewhere/one.html").read_text()
    )


def test_a_folder_without_a_run_ends_with_a_sentence(cli, tmp_path):
    (tmp_path / "[bold]empty").mkdir()
    result = cli("report", "[bold]empty")
    assert result.exit_code == 2
    assert "[bold]empty is not the folder of a run: it holds no config.json" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "runs/report.html").exists()
