"""The files of a run: their names, checkpoints, weights, log and provenance; loading a model."""
