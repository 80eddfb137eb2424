"""A trained network at work: what it says of new sequences, files and streams."""

from .recognizer import Prediction, Recognizer, trained_network

__all__ = ["Prediction", "Recognizer", "trained_network"]
