"""Events of a run: what happened, how often, where and when."""

from stas_neuro.activity.record import KINDS, Activity, ActivityBuilder, Layer, step_labels

__all__ = ["KINDS", "Activity", "ActivityBuilder", "Layer", "step_labels"]
