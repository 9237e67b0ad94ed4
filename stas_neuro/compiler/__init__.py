"""From a trained model to a bundle: one set of options and one driver for all who compile."""

from stas_neuro.compiler.driver import compile, replay
from stas_neuro.compiler.integers import choose_scales, load_scales, quantise, save_scales
from stas_neuro.compiler.options import DEFAULT_PROFILE, PROFILE_IMAGES, CompileOptions

__all__ = [
    "DEFAULT_PROFILE",
    "PROFILE_IMAGES",
    "CompileOptions",
    "choose_scales",
    "compile",
    "load_scales",
    "quantise",
    "replay",
    "save_scales",
]
