"""Real NVP and Pixel RNN, section by section: models, data, training, and recorded results."""
