"""Ask for rules on a backend of Keras that trains no models, and print the message as JSON."""

from __future__ import annotations

import json

import keras
import numpy as np

import affinet.keras


def main() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")])
    before = model.get_weights()
    message = "was not refused"
    try:
        affinet.keras.project(model, "sgd", affinet.keras.weights(model)["dense/kernel"] == 0.0)
    except affinet.AttachError as error:
        message = str(error)
    moved = float(np.abs(model.get_weights()[0] - before[0]).max())
    print(json.dumps({"message": message, "moved": moved}))  # noqa: T201


if __name__ == "__main__":
    main()
