"""The fleet repository: documents, what is wrong with them, and what each node shall have."""
