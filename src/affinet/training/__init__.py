"""Train under rules: project around every optimizer step, or compute weights from free numbers, and report on both."""
