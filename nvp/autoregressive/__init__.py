"""Pixel Recurrent Neural Networks: every part of the paper, one file a part."""
