from .recording import capture as capture

__all__ = ["capture"]
