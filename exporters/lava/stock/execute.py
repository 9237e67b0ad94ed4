"""Runs stock processes inside this interpreter: the models that Lava compiled, over in-memory channels."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from stas_neuro.ir import Array

from ..lava_api import ChannelBuilderMp, create_port_id
from .processes import Assembly


@dataclass(eq=False)
class _Channel:
    """Both ends of a channel: messages in the order they were sent."""

    name: str
    messages: deque[Array] = field(default_factory=deque)

    def send(self, data: Array) -> None:
        self.messages.append(data)

    def recv(self) -> Array:
        return self.messages.popleft()


@dataclass(eq=False)
class _Feedback:
    """The channel from the synapses of a group with itself, which run after their group.

    The first that synapses do in a step is to send what they accumulated in the step before: the group reads
    it there, and the sending changes nothing.
    """

    name: str
    model: Any = None

    def send(self, data: Array) -> None:
        pass

    def recv(self) -> Array:
        accumulated: Array = self.model.a_buff
        return accumulated


def execute(assembly: Assembly, steps: int) -> dict[str, Array]:
    """Run all steps; what each group sent, int32 (size, steps), by its name."""
    models = _build(assembly)
    running = [models[process] for process in assembly.order]
    for _ in range(steps):
        for model in running:
            model.time_step += 1
            model.run_spk()
    return {name: models[sink].data for name, sink in assembly.sinks.items()}


def _build(assembly: Assembly) -> dict[Any, Any]:
    builders = assembly.executable.proc_builders
    loops = []
    for channel in assembly.executable.channel_builders:
        if not isinstance(channel, ChannelBuilderMp):
            raise TypeError(f"the executor has no channel of type {type(channel).__name__}")
        source, target = channel.src_process, channel.dst_process
        sender: Any = _Channel(channel.src_port_initializer.name)
        receiver: Any = _Channel(channel.dst_port_initializer.name, sender.messages)
        if source in assembly.feedback:
            sender, receiver = (_Feedback(end.name) for end in (sender, receiver))
            loops.append((receiver, source))
        builders[source].set_csp_ports([sender])
        builders[target].set_csp_ports([receiver])
        builders[target].add_csp_port_mapping(create_port_id(source.id, sender.name), receiver)
    models = {process: builders[process].build() for process in assembly.order}
    for receiver, source in loops:
        receiver.model = models[source]
    return models
