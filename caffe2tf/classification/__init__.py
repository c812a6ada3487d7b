"""A model and pictures, in; their classes with names and probabilities, and how often that is right, out."""
