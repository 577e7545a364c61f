"""Read the folder of a run, finished or not, into the contents of a report's page."""
