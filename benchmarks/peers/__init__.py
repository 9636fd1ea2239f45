"""The same models as others would write them: in plain PyTorch, or from the parts of a library."""
