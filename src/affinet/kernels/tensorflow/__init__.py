"""Laws of blocks on tensors of TensorFlow, in graphs of `tf.function` or outside of them."""
