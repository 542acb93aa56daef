"""torchvision beside a CPU-only torch.

torchvision's wheel carries compiled operators that are linked against one build of torch. Beside
another build, such as the CPU-only one, they do not load, and the import fails with "operator
torchvision::nms does not exist": torchvision attaches shape rules to two of them without asking
whether they are there. Data sets, transforms and classifiers need none of these operators, so it is
enough that torch knows their schemas.
"""

import importlib
from types import ModuleType

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# torch forgets the definitions when this object is collected.
_library: torch.library.Library | None = None


def import_torchvision_datasets() -> ModuleType:
    """Import and return `torchvision.datasets`, with stand-in operator schemas where needed."""
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    _define_missing_operators()
    return importlib.import_module("torchvision.datasets")


def _define_missing_operators() -> None:
    global _library
    _library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            _library.define(schema)  # type: ignore[no-untyped-call]
