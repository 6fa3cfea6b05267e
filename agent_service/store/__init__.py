"""Every SQL statement: one method is one transaction."""
