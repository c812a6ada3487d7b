"""A Net, in; a flat keras.Model of stock layers, out; and back. Nothing below this room imports Keras."""
