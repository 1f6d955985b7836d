"""Compare the project's own code with reference numbers measured on the public code."""
