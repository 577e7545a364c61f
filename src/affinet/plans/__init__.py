"""Work with a plan as a value: compile, explain, update and save it, and choose a projector for it."""
