"""Lower trained spatio-temporally adaptive spiking transformers to Loihi-class programs and price them."""

__version__ = "0.1.0"
