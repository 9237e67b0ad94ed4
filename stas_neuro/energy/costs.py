"""Cost of each image of a run on a chip: activity times profile, without parts and explanations.

Intervals are propagated by pricing three times: with all entries low, at their value, and high. Counts and
entries are not negative and are combined by sums, products and maxima, so totals increase with every entry
and the bounds are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stas_neuro.activity import Activity
from stas_neuro.chips.profile import Corners, Profile
from stas_neuro.choices import Mode
from stas_neuro.energy.copies import Copies, copies_of
from stas_neuro.energy.core_assignment import CoreAssignment
from stas_neuro.energy.deployment import DEFAULT, Deployment
from stas_neuro.energy.dynamic import Dynamic, price_events
from stas_neuro.energy.events import Events, Running, count_events
from stas_neuro.energy.exits import exit_or_follow
from stas_neuro.energy.gating import Gating, check_gating, gating_of
from stas_neuro.energy.latency import Latency, needed_times, price_latency
from stas_neuro.energy.packing import assign_cores
from stas_neuro.energy.result import Interval, Totals, interval
from stas_neuro.energy.stems import stem_steps
from stas_neuro.energy.timing import Flow, alone, stream
from stas_neuro.errors import InputError

_DYNAMIC = ("dynamic_energy_j", "halting_energy_j", "visit_energy_j", "dynamic_energy_per_image_j")
"""Fields that are unknown where the profile has no energy of any event."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Cost:
    """Energies in J, powers in W and times of each image; None where unknown, by a reason of `unavailable`.

    Parameters
    ----------
    running : Running
        How the chip runs the network.
    copies : Copies
    placement : CoreAssignment or None
    events : Events
    dynamic : Dynamic
    priced : bool
        Whether any event has a price.
    took : Latency or None
    spacing : float (images, 3) or None
        Time in s from one image to the next, for the throughput.
    static, management, total : float (images, 3) or None
    static_w, management_w : float (3,) or None
        Of all copies.
    unavailable : dict
    """

    running: Running
    copies: Copies
    placement: CoreAssignment | None
    events: Events
    dynamic: Dynamic
    priced: bool
    took: Latency | None
    spacing: Corners | None
    static: Corners | None
    management: Corners | None
    total: Corners | None
    static_w: Corners | None
    management_w: Corners | None
    unavailable: dict[str, str]

    @property
    def flow(self) -> Flow | None:
        """The hardware steps of the images; None for a profile without."""
        return self.running.flow

    def totals(self) -> Totals:
        """Return means over the images."""
        return Totals(
            energy_j=mean(self.total),
            dynamic_energy_j=mean(self.dynamic.per_image) if self.priced else None,
            latency_s=None if self.took is None else mean(self.took.per_image),
            throughput_images_per_s=None if self.spacing is None else self._rate(self.spacing),
        )

    def _rate(self, seconds: Corners) -> Interval | None:
        """Return the images per second of all copies, from the mean time between images of each."""
        between = seconds.mean(axis=0)
        if not between.all():
            self.unavailable["throughput_images_per_s"] = "the time of an image may be 0 by the profile"
            return None
        return interval(self.copies.total / between[::-1])


def price(activity: Activity, profile: Profile, deployment: Deployment = DEFAULT) -> Totals:
    """Return only the totals of `estimate`, in a part of its time, to compare many deployments.

    Raises the errors of `estimate`.
    """
    return cost_of(activity, profile, deployment).totals()


def mean(per_image: Corners | None) -> Interval | None:
    """Return the mean over the images of an array (images, 3)."""
    return None if per_image is None else interval(per_image.mean(axis=0))


def cost_of(
    activity: Activity,
    profile: Profile,
    deployment: Deployment,
    placement: CoreAssignment | None = None,
) -> Cost:
    """Price each image; see `estimate`. A given placement replaces that of the run, or its packing."""
    if activity.images == 0:
        raise InputError("the activity has no images", "run at least one image")
    gating, schedule = gating_of(activity, deployment.gating), deployment.schedule_of(activity)
    check_gating(activity, profile, gating)
    deployment.check(activity, profile)
    if placement is None and profile.reason("limits") is None:
        bits, contexts, stem = deployment.weight_bits, deployment.contexts, deployment.stem
        placement = assign_cores(activity, profile, bits, contexts, stem)
    copies = copies_of(deployment, placement, profile)
    unavailable: dict[str, str] = {}
    untimed: dict[str, str] = {}
    chip = _Chip(activity, profile, deployment, gating, placement, copies, untimed)
    running, events, took = chip.ran(deployment.mode)
    dynamic = price_events(activity, events, profile, unavailable)
    priced = bool(profile.energy) or not unavailable
    if not priced:  # events without a price are not free
        why = f"no event has a price: {next(iter(unavailable.values()))}"
        unavailable |= dict.fromkeys(_DYNAMIC, why)
    unavailable |= untimed
    spacing = None if took is None else took.spacing
    # The neurons of a folded stem are in the blocks when the next image would come.
    streams = schedule == "pipelined" and deployment.stem != "folded"
    if took is not None and deployment.mode == "single" and streams:
        *_, streamed = chip.ran("stream")
        spacing = None if streamed is None else streamed.spacing
    static_w = _power("static", placement, profile, copies, unavailable)
    management_w = _power("management", placement, profile, copies, unavailable)
    static = _energy("static", static_w, took, copies, unavailable)
    management = _energy("management", management_w, took, copies, unavailable)
    if gating == "power" and static is not None and took is not None:
        static = static - _spared(took, profile)
    total = None if static is None or not priced else dynamic.per_image + static
    if total is None:
        part, field = ("static", "static_energy_j") if priced else ("dynamic", "dynamic_energy_j")
        unavailable["energy_j"] = f"no total without {part} energy: {unavailable[field]}"
        unavailable["energy_delay_product_js"] = unavailable["energy_j"]
    elif management is not None:
        total = total + management
    return Cost(
        running=running,
        copies=copies,
        placement=placement,
        events=events,
        dynamic=dynamic,
        priced=priced,
        took=took,
        spacing=spacing,
        static=static,
        management=management,
        total=total,
        static_w=static_w,
        management_w=management_w,
        unavailable=unavailable,
    )


@dataclass(frozen=True, eq=False)
class _Chip:
    """A run on a chip, as far as it does not depend on whether images are alone or in a stream."""

    activity: Activity
    profile: Profile
    deployment: Deployment
    gating: Gating
    placement: CoreAssignment | None
    copies: Copies
    unavailable: dict[str, str]

    def ran(self, mode: Mode) -> tuple[Running, Events, Latency | None]:
        """Return what happens, and how long it takes."""
        running = self._running(mode)
        schedule = self.deployment.schedule_of(self.activity)
        if mode == "single" or schedule != "pipelined" or not self.deployment.early_end:
            events = self._events(running)
            return running, events, self._time(events, running.flow)
        following, single = replace(running, early_end=False), self._running("single")
        events, latency = self._events(following), None
        if running.flow is not None and single.flow is not None:
            alone = self._events(single), single.flow
            events, latency = exit_or_follow(alone, (events, running.flow), self._time)
        return running, events, latency

    def _running(self, mode: Mode) -> Running:
        activity, deployment = self.activity, self.deployment
        flow = None
        if self.profile.reason("time") is None:
            schedule, contexts = deployment.schedule_of(activity), deployment.contexts
            flow = alone(activity, schedule) if mode == "single" else stream(activity, schedule, contexts)
        return Running(
            flow=flow,
            gating=self.gating,
            idle=deployment.idle_of(self.profile),
            early_end=deployment.early_end,
            microcode=deployment.microcode,
            present=None if flow is None else stem_steps(activity, flow, self.placement, deployment.stem),
        )

    def _events(self, running: Running) -> Events:
        return count_events(self.activity, running, self.profile.graded_spikes)

    def _time(self, events: Events, flow: Flow | None) -> Latency | None:
        return _latency(events, flow, self.placement, self.profile, self.copies, self.unavailable)


def _latency(
    events: Events,
    flow: Flow | None,
    placement: CoreAssignment | None,
    profile: Profile,
    copies: Copies,
    unavailable: dict[str, str],
) -> Latency | None:
    reason = profile.reason("time") or profile.reason("limits")
    if reason is None and placement is not None:
        reasons = (profile.reason(name) for name in needed_times(events, placement, profile))
        reason = next((known for known in reasons if known is not None), None)
    if reason is not None or flow is None or placement is None:
        unavailable["latency_s"] = unavailable["throughput_images_per_s"] = str(reason)
        return None
    return price_latency(events, flow, placement, profile, copies.on_a_chip)


def _power(
    name: str,
    placement: CoreAssignment | None,
    profile: Profile,
    copies: Copies,
    unavailable: dict[str, str],
) -> Corners | None:
    """Return the static or management power of all cores or chips in W, (3,); management is per chip."""
    reason = profile.reason(f"power.{name}") or profile.reason("limits")
    if reason is not None or placement is None:
        unavailable[f"{name}_power_w"] = str(reason)
        return None
    per_core = name == "static" and profile.static_scope == "core"
    many = placement.cores * copies.total if per_core else copies.chips
    return profile.corners(f"power.{name}") * many


def _energy(
    name: str, power: Corners | None, took: Latency | None, copies: Copies, unavailable: dict[str, str]
) -> Corners | None:
    """Return the energy in J of a power from one image to the next of each copy, (images, 3)."""
    if power is None or took is None:
        cause = f"{name}_power_w" if power is None else "latency_s"
        unavailable[f"{name}_energy_j"] = unavailable[cause]
        return None
    return power * took.spacing / copies.total


def _spared(took: Latency, profile: Profile) -> Corners:
    """Return the static energy in J saved while cores are gated, (images, 3)."""
    per_core = profile.corners("power.static") - profile.corners("power.static_gated")
    if profile.static_scope == "chip":
        per_core = per_core / profile.limit("cores_per_chip")
    return took.gated * per_core
