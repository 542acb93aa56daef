"""The two apps of one project, loaded in two threads at once, as Flower's engine does it."""

import os
import subprocess
import sys

import pytest

LOADS = """
import importlib.util, sys, threading, time
from importlib.machinery import PathFinder, SourceFileLoader
import flwr.app, flwr.client, flwr.clientapp, flwr.server, flwr.serverapp, torch

begun = threading.Event()

class Slow(SourceFileLoader):
    def create_module(self, spec):
        if threading.current_thread().name == "client":
            begun.set()
            time.sleep(4.0)  # in which the other thread comes as far as it can

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "clients":
            spec = PathFinder.find_spec(name, path, target)
            spec.loader = Slow(spec.loader.name, spec.loader.path)
            return spec

def client():
    importlib.util.find_spec("clients.client_app")
    importlib.import_module("clients.client_app")

def server():
    begun.wait()
    importlib.import_module("simulations.server_app")

sys.meta_path.insert(0, Finder())
for thread in (threads := [threading.Thread(target=f, name=f.__name__) for f in (client, server)]):
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.slow  # a program of its own loads all
def test_neither_of_two_apps_that_load_at_once_gets_a_module_that_is_half_there():
    done = subprocess.run(
        [sys.executable, "-c", LOADS], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
