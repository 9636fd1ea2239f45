"""Images: named sets, their formats, splits and downloads."""

from nvp.data.formats import MissingData
from nvp.data.named import EMBEDDED, EMBEDDED_BINARY, FASHION_CLASSES
from nvp.data.sets import Dataset, load

__all__ = ["EMBEDDED", "EMBEDDED_BINARY", "FASHION_CLASSES", "Dataset", "MissingData", "load"]
