"""Images: named sets, their formats, splits and downloads."""

from nvp.data.sets import EMBEDDED, EMBEDDED_BINARY, Dataset, MissingData, load

__all__ = ["EMBEDDED", "EMBEDDED_BINARY", "Dataset", "MissingData", "load"]
