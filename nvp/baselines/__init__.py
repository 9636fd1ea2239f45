"""Models to compare with: a Gaussian, a variational auto-encoder, an adversarial network."""
