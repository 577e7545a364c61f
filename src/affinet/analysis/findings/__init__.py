"""What a consistent plan says that its author may not have meant: one small file for each kind of finding."""
