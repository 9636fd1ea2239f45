"""What only the book needs: figures, choice of runs, ablation. `nvp` does not know it."""
