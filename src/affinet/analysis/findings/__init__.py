"""Find consequences of a plan that its author may not have meant: one small file per kind of finding."""
