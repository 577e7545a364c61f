"""Laws of blocks on arrays of libraries that trace functions, or run them step by step: JAX, TensorFlow and torch."""
