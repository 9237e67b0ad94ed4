"""Files shipped with the package: trained models and test images, from ``examples/`` of the repository."""

from __future__ import annotations

from pathlib import Path

from stas_neuro.errors import InputError

ROOT = Path(__file__).resolve().parent
IMAGES = "data/fashion-mnist-512.npz"
"""512 Fashion-MNIST test images, uint8, with labels and class names."""
HALTING_MODEL = "fashion-spikformer"
ONE_STEP_MODEL = "fashion-t1"
ORDER_MODEL = "order"


def shipped_models() -> tuple[str, ...]:
    """Return the names of the shipped models, such as ``fashion-spikformer`` and ``order/stage1``."""
    folder = ROOT / "models"
    return tuple(sorted(file.parent.relative_to(folder).as_posix() for file in folder.rglob("config.json")))


def shipped_model(name: str) -> Path | None:
    """Return the directory of a shipped model; None where there is none of that name."""
    return asset(f"models/{name}") if name in shipped_models() else None


def asset(name: str) -> Path:
    """Return the path of a shipped file, or of a directory such as ``models/fashion-spikformer``.

    Raises
    ------
    InputError
        If it does not exist.
    """
    path = ROOT / name
    if not path.exists():
        raise InputError(f"{path} is missing", "reinstall stas-neuro from a wheel, an sdist or a checkout")
    return path
