"""Compilation of a trained model to a bundle: the options and the driver, for Python and the command line."""

from stas_neuro.compiler.driver import compile, replay
from stas_neuro.compiler.halting import HaltingChoice, HaltingEffect, choose_halting
from stas_neuro.compiler.integers import choose_scales, load_scales, quantise, save_scales
from stas_neuro.compiler.options import DEFAULT_PROFILE, PROFILE_IMAGES, CompileOptions

__all__ = [
    "DEFAULT_PROFILE",
    "PROFILE_IMAGES",
    "CompileOptions",
    "HaltingChoice",
    "HaltingEffect",
    "choose_halting",
    "choose_scales",
    "compile",
    "load_scales",
    "quantise",
    "replay",
    "save_scales",
]
