"""What a run leaves on disk: its names, tensors, log and provenance."""
