"""Code for the book alone: figures, live figures, ablation. `nvp` does not import it."""
