import subprocess
import sys


def test_torchvision_imports_whether_or_not_its_operators_load():
    # In a process of its own: an import succeeds or fails once.
    code = """
from clients.tasks.torchvision_ops import import_torchvision_datasets
datasets = import_torchvision_datasets()
assert import_torchvision_datasets() is datasets
import torchvision, torch
from torchvision import models, transforms
assert datasets.MNIST and models.resnet18 and transforms.Normalize
assert hasattr(torch.ops.torchvision, "nms") and hasattr(torch.ops.torchvision, "qnms")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_clients_start_without_torchvision():
    code = "import clients.client_app, sys; assert 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
