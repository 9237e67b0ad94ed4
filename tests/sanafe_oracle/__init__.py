"""SANA-FE, a simulator of neuromorphic chips, as an oracle of counts and prices.

SANA-FE is an outside program (GPL-3.0): nothing here imports it. A mapped network and a chip's constants are
written as its YAML files, which run with it alone, in an environment of its own. ``python -m sanafe_oracle
PYTHON`` compares all cases.
"""
