"""The plan as a value: compile, explain, update, save, and choose a projector for it."""
