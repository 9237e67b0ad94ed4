"""Networks of SpikingJelly 2.0's zoo at small sizes: imported, as integers, and on Lava (`--group zoo`)."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.chips_in_turn import on_chips
from support.paths import EXAMPLES

import stas_neuro
from stas_neuro.data import LabelledImages
from stas_neuro.importers.errors import CannotImport
from stas_neuro.ir import Graph
from stas_neuro.trace import Trace

pytestmark = pytest.mark.slow
NAMES = (
    "spikformer", "spikformer_cifar10", "qkformer_token", "qkformer_channel", "maxformer", "maxformer_cifar",
    "spike_driven_transformer", "meta_spikeformer", "ms_resnet", "max_resnet",
    "sew_resnet_add", "sew_resnet_and",
    "sew_resnet_iand", "sew_resnext", "spiking_resnet", "mnist_net", "fashion_mnist_net", "nmnist_net",
    "cifar10_net", "cifar10_dvs_net", "dvs_gesture_net", "spiking_vgg",
)  # fmt: skip
REFUSED = ("masnn", "att_ms_resnet")
REASONS = {
    "adaptive_avg_pool3d": "windows are along H and W only",
    "adaptive_max_pool3d": "windows are along H and W only",
    "conv3d": "windows are along H and W only",
    "max": "windows are along H and W only",
    "relu": "only neurons are nonlinear",
    "sigmoid": "only neurons are nonlinear",
}
"""Operations of the attention of those that cannot be imported, and why."""


@pytest.fixture(scope="module")
def zoo() -> Any:
    pytest.importorskip("spikingjelly")
    sys.path.insert(0, str(EXAMPLES))
    try:
        import zoo
    finally:
        sys.path.remove(str(EXAMPLES))
    assert {*zoo.SMALL} == {*NAMES, *REFUSED}
    return zoo


@pytest.mark.parametrize("name", NAMES)
def test_float_graph_integers_and_lava(zoo: Any, name: str) -> None:
    model = zoo.SMALL[name]
    with warnings.catch_warnings():  # most of them return the logits of each step
        warnings.filterwarnings("ignore", message="the module returns logits of each step")
        graph = stas_neuro.open_model(model.make(), example=model.images(), axes=model.axes)
    assert isinstance(graph, Graph)
    images = model.images(2).movedim(model.axes.index("B"), 0).numpy()
    bundle = stas_neuro.compile(graph, bits=8, calibrate=LabelledImages(images, None))
    for arithmetic in ("float", "fixed"):
        ours, lava = (
            stas_neuro.run(bundle, images, arithmetic=arithmetic, limit=1, record_spikes=True, **options)
            for options in ({"backend": "reference"}, {"backend": "lava", "granularity": "layer"})
        )
        assert ours.spikes is not None and lava.spikes is not None
        for layer, spikes in ours.spikes.items():
            np.testing.assert_array_equal(spikes, lava.spikes[layer], err_msg=f"{arithmetic} {layer}")
        np.testing.assert_allclose(
            ours.logits, lava.logits, rtol=0, atol=1e-9 if arithmetic == "float" else 0
        )
        if arithmetic == "fixed":
            _compare_on_chips(bundle.of("fixed"), lava, images[:1])
        fires = [layer for layer, spikes in ours.spikes.items() if spikes.any()]
        assert len(fires) > 0.8 * len(ours.spikes)


def _compare_on_chips(graph: Graph, wanted: Trace, images: NDArray[np.floating[Any]]) -> None:
    for strategy in ("channel-major", "token-major"):
        mapping = stas_neuro.place(graph, stas_neuro.load_profile("loihi2"), strategy=strategy)
        mapping = on_chips(mapping, min(4, len(mapping.cores)))
        assert mapping.chips > 1
        chips = stas_neuro.run(
            graph, images, backend="lava", arithmetic="fixed", mapping=mapping, record_spikes=True
        )
        np.testing.assert_array_equal(chips.logits, wanted.logits)
        for layer, spikes in wanted.spikes.items():
            np.testing.assert_array_equal(chips.spikes[layer], spikes, err_msg=f"{strategy} {layer}")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(zoo: Any, name: str) -> None:
    model = zoo.SMALL[name]
    with pytest.raises(CannotImport) as refused:
        stas_neuro.open_model(model.make(), example=model.images(), axes=model.axes)
    found = [problem.what for problem in refused.value.problems]
    for operation, reason in REASONS.items():
        assert any(f"aten.{operation}." in what and reason in what for what in found), operation
    assert all(":" in what for what in found if "no rule" in what), "an operation has no reason"
