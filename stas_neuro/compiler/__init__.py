"""Compilation of a trained model to a bundle: the options and the driver, for Python and the command line."""

from stas_neuro.compiler.compilation import Compilation
from stas_neuro.compiler.driver import compile, recorded_compilation, replay
from stas_neuro.compiler.halting import HaltingChoice, HaltingEffect, choose_halting
from stas_neuro.compiler.integers import choose_scales, load_scales, quantise, save_scales
from stas_neuro.compiler.model import CHECKPOINT_FILES, fold, is_checkpoint, load_model, lower, provenance
from stas_neuro.compiler.opened import Opened, open_model, open_network, open_source
from stas_neuro.compiler.options import DEFAULT_PROFILE, PROFILE_IMAGES, CompileOptions
from stas_neuro.compiler.problems import attempt
from stas_neuro.compiler.shared import Compiler

__all__ = [
    "CHECKPOINT_FILES",
    "DEFAULT_PROFILE",
    "PROFILE_IMAGES",
    "Compilation",
    "CompileOptions",
    "Compiler",
    "HaltingChoice",
    "HaltingEffect",
    "Opened",
    "attempt",
    "choose_halting",
    "choose_scales",
    "compile",
    "fold",
    "is_checkpoint",
    "load_model",
    "load_scales",
    "lower",
    "open_model",
    "open_network",
    "open_source",
    "provenance",
    "quantise",
    "recorded_compilation",
    "replay",
    "save_scales",
]
