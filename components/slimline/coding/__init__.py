"""Code a model's weights for transport: a fraction of the bytes, and every bit restored."""

from slimline.coding.container import decode_model, encode_model

__all__ = ["decode_model", "encode_model"]
