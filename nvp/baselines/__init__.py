"""Models to compare with: a Gaussian, a VAE, a GAN and a diffusion model."""
