from support.digits import digits

__all__ = ["digits"]
