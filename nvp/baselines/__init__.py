"""What a flow is compared with: a Gaussian, a variational auto-encoder, an adversarial network."""
