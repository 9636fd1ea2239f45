"""Images: named sets, their formats, splits and downloads."""

from nvp.data.sets import EMBEDDED, EMBEDDED_BINARY, FASHION_CLASSES, Dataset, MissingData, load

__all__ = ["EMBEDDED", "EMBEDDED_BINARY", "FASHION_CLASSES", "Dataset", "MissingData", "load"]
