"""TensorFlow's names for what the room `train` offers: `keras.losses`, `keras.optimizers`."""
