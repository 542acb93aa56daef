from concurrent.futures import ThreadPoolExecutor

import clients.tasks
from clients import Settings, load_task


def test_settings_that_ask_for_the_same_data_share_them():
    task = load_task(Settings(seed=40))
    assert load_task(Settings(seed=40, f=3, attack="gaussian", batch_size=9)) is task
    assert load_task(Settings(seed=41)) is not task
    assert load_task(Settings(seed=40, folds=5)) is not task
    assert load_task(Settings(seed=40, folds=5, fold=1)) is not load_task(
        Settings(seed=40, folds=5)
    )


def test_threads_that_ask_at_once_load_once(monkeypatch):
    loads = []
    original = clients.tasks.LOADERS["spambase"]()
    monkeypatch.setitem(
        clients.tasks.LOADERS, "spambase", lambda: lambda *args: loads.append(1) or original(*args)
    )
    with ThreadPoolExecutor(8) as pool:
        tasks = list(pool.map(lambda _: load_task(Settings(seed=42)), range(8)))
    assert len(loads) == 1
    assert all(task is tasks[0] for task in tasks)
