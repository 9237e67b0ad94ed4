"""Whether independent executions of one network agree: torch, the references and Lava.

In float64 they must: every spike, every visit and every event equal, logits within ``TOLERANCE``. In float32
the order of a sum decides a threshold comparison now and then, and what follows from it cascades: there the
agreement is reported and nothing is promised. The integer program leaves no room at all: every integer of the
reference and of Lava must be equal. What integers change against the float network is reported.
"""

from stas_neuro.verification.agreement import TOLERANCE, Agreement, Divergence, LayerAgreement
from stas_neuro.verification.certificate import FORMAT, Part, Verification, check_certificate
from stas_neuro.verification.everywhere import BASELINE, CHOICES, INTEGER_BASELINE, verify
from stas_neuro.verification.headroom import Headroom, Saturation

__all__ = [
    "BASELINE",
    "CHOICES",
    "FORMAT",
    "INTEGER_BASELINE",
    "TOLERANCE",
    "Agreement",
    "Divergence",
    "Headroom",
    "LayerAgreement",
    "Part",
    "Saturation",
    "Verification",
    "check_certificate",
    "verify",
]
